"""The variants as ``export --variant V --int8`` makes them: the smallest, and the largest for small images.

Slow tests export the others, too, each for images of its own size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from _pytest.mark.structures import ParameterSet

from linglos_deploy.artifacts import OnnxArtifact, open_onnx
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.export import export_onnx
from linglos_deploy.models.loading import ModelSource, load_model
from tests.commandline import run

PARAMETERS = {"t": 2.0e6, "s": 5.3e6, "m": 10.3e6, "b": 26.3e6}
"""What the family's description says, for 1000 classes."""

STRIDES = (4, 8, 16, 32)

OWN_SIDE, SMALL_SIDE = 224, 96
"""96 x 96 pixels have 576, 144, 36 and 9 positions at the strides: no number of channels."""


def on_one_worker(variant: str, *, slow: bool, side: int = OWN_SIDE) -> ParameterSet:
    """Return a variant and the side of its images, as parameters of a test."""
    marks = [pytest.mark.xdist_group(f"family-{variant}"), *([pytest.mark.slow] if slow else [])]
    return pytest.param((variant, side), marks=marks, id=variant if side == OWN_SIDE else f"{variant}-{side}")


@dataclass(frozen=True, slots=True)
class Exported:
    """One variant, exported by the command line.

    Attributes:
        variant: Its name.
        side: Height and width of its images, in pixels.
        bundle: What was written.
        report: What was said.
    """

    variant: str
    side: int
    bundle: Path
    report: Any

    @property
    def graphs(self) -> tuple[OnnxArtifact, OnnxArtifact]:
        """The float32 reference and the INT8 graph."""
        return open_onnx(self.bundle / "model.onnx"), open_onnx(self.bundle / "model.int8.onnx")


@pytest.fixture(scope="session")
def export_variant(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Exported]:
    """Return a function that exports each variant once a size."""

    @cache
    def made(variant: str, side: int) -> Exported:
        folder = tmp_path_factory.mktemp(f"family-{variant}")
        done = run(
            *("export", "--variant", variant, "--int8", "--images", 8, "--engine", "none", "--no-latency"),
            *([] if side == OWN_SIDE else ["--imgsz", side]),
            *("-o", folder, "--json", "--quiet"),
        )
        assert done.exit_code == 0, done.stderr
        return Exported(variant, side, folder / f"linglo_{variant}", done.json)

    return made


@pytest.fixture(
    params=[
        on_one_worker("t", slow=False),
        on_one_worker("b", slow=False, side=SMALL_SIDE),
        *(on_one_worker(variant, slow=True) for variant in ("s", "m", "b")),
    ]
)
def exported(request: pytest.FixtureRequest, export_variant: Callable[[str, int], Exported]) -> Exported:
    return export_variant(*request.param)


def test_a_variant_has_the_size_of_its_description(exported: Exported) -> None:
    assert exported.report["parameters"] == pytest.approx(PARAMETERS[exported.variant], rel=0.02)


def test_random_weights_and_synthetic_ranges_are_said_loudly(exported: Exported) -> None:
    assert any("seeded random numbers" in warning for warning in exported.report["warnings"])
    assert any("synthetic images" in warning for warning in exported.report["warnings"])


def test_both_graphs_use_standard_operators_only(exported: Exported) -> None:
    for graph in exported.graphs:
        assert {node.domain for node in onnx.load(graph.path).graph.node} == {""}


def test_no_tensor_holds_query_key_pairs(exported: Exported) -> None:
    """Neither N x N elements, N the positions at some stride, nor two axes of N each."""
    positions = {(exported.side // stride) ** 2 for stride in STRIDES}
    for graph in exported.graphs:
        model = onnx.load(graph.path)
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
        shapes = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in (*inferred.value_info, *inferred.output)
        }
        known = {name for name, shape in shapes.items() if all(shape)}
        made = {name for node in inferred.node for name in node.output if name}
        assert len(made - known) <= 0.02 * len(made), f"shapes unknown: {sorted(made - known)[:5]}"
        for name in known:
            shape = shapes[name]
            assert int(np.prod(shape)) not in {count**2 for count in positions if count > 49}, (name, shape)
            assert sum(dim in positions for dim in shape) < 2, (name, shape)


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_float32_logits_agree_with_pytorch_at_any_batch(exported: Exported, batch: int) -> None:
    model = load_model(ModelSource(variant=exported.variant))
    image = np.random.default_rng(batch).standard_normal((batch, 3, exported.side, exported.side), dtype=np.float32)
    with torch.inference_mode():
        expected = model.module(torch.from_numpy(image)).numpy()
    with OnnxRuntime(threads=2).open(exported.graphs[0]) as runner:
        found = runner.run({"image": image})["logits"]
    assert np.abs(found - expected).max() <= 1e-4


@pytest.mark.parametrize("variant_and_side", [on_one_worker(name, slow=name != "t") for name in PARAMETERS])
def test_a_dynamic_graph_agrees_with_pytorch_at_other_sizes(variant_and_side: tuple[str, int], tmp_path: Path) -> None:
    variant, _ = variant_and_side
    model = load_model(ModelSource(variant=variant))
    graph = export_onnx(model, ExportConfig(dynamic=True), out=tmp_path / "model.onnx")
    with OnnxRuntime(threads=2).open(graph) as runner:
        for height, width in ((160, 224), (320, 320)):
            image = np.random.default_rng(height).standard_normal((2, 3, height, width), dtype=np.float32)
            with torch.inference_mode():
                expected = model.module(torch.from_numpy(image)).numpy()
            assert np.abs(runner.run({"image": image})["logits"] - expected).max() <= 1e-4
