"""A runner that answers with a function, for tests that need no real model."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from linglos_deploy.bundle import open_bundle, seal_bundle
from linglos_deploy.choices import Precision
from linglos_deploy.cluster import Cluster
from linglos_deploy.signature import Batch, ModelSignature, TensorSpec
from tests.cluster import HereClient, here
from tests.parity import KEPT_DIGITS

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
CHECKPOINT = DIGITS / "linglo_digits.safetensors"

Answer = Callable[[np.ndarray], Mapping[str, np.ndarray]]


@dataclass
class FunctionRunner:
    answer: Answer
    signature: ModelSignature

    def run(self, batch: Batch) -> Batch:
        return dict(self.answer(batch["image"]))


@pytest.fixture
def runner() -> Callable[..., FunctionRunner]:
    """Make a runner; its outputs are named by the keywords, each a function of the image."""

    def make(**outputs: Callable[[np.ndarray], np.ndarray]) -> FunctionRunner:
        signature = ModelSignature(
            inputs=(TensorSpec("image", "float32", ("batch", 4)),),
            outputs=tuple(TensorSpec(name, "float32", ("batch", f"{name}_1")) for name in outputs),
        )
        return FunctionRunner(lambda image: {name: function(image) for name, function in outputs.items()}, signature)

    return make


@dataclass(frozen=True, slots=True)
class Digits:
    """Bundles of the trained digits network, one a precision; tests that use them belong to ``xdist_group("digits")``.

    Attributes:
        images: A few digits, one folder a class.
        bundles: The bundles.
    """

    images: Path
    bundles: Mapping[Precision, Path]

    def graph(self, precision: Precision) -> Path:
        """Return the graph of a precision."""
        bundle = self.bundles[Precision.INT8 if precision is Precision.FP32 else precision]
        return bundle / open_bundle(bundle).find_graph(precision).file

    def with_graph(self, precision: Precision, graph: onnx.ModelProto, folder: Path) -> Path:
        """Return a copy of a bundle whose graph is another one, sealed as if nothing had happened."""
        original = self.graph(precision)
        shutil.copytree(original.parent, folder)
        manifest = open_bundle(folder).manifest
        onnx.save(graph, folder / original.name)
        seal_bundle(folder, manifest)
        return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    """Export the trained digits network in every precision, with one float32 graph for all."""
    from linglos_deploy import pipeline
    from linglos_deploy.artifacts import open_onnx
    from linglos_deploy.exporters import export
    from linglos_deploy.exporters.config import ExportConfig
    from linglos_deploy.models.loading import ModelSource

    precisions = (Precision.INT8, Precision.INT8_FP16, Precision.FP16)
    kept = Path(os.environ.get(KEPT_DIGITS, "")).absolute()
    if KEPT_DIGITS in os.environ and kept.exists():
        return Digits(kept / "images", {precision: kept / str(precision) for precision in precisions})
    folder = tmp_path_factory.mktemp("digits")
    images = write_digits(folder / "images", 32)
    bundles: dict[Precision, Path] = {}
    exported = export.export_onnx

    def export_once(model: object, config: object, *, out: Path, progress: object) -> object:
        if not bundles:
            return exported(model, config, out=out, progress=progress)  # type: ignore[arg-type]
        first = open_bundle(bundles[Precision.INT8])
        shutil.copyfile(first.path / "model.onnx", out)
        return open_onnx(out, lineage=first.manifest.graphs[0].lineage)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "export_onnx", export_once)
        for precision in precisions:
            report = pipeline.export_bundle(
                pipeline.ExportRequest(
                    ModelSource(checkpoint=CHECKPOINT),
                    folder,
                    name=str(precision),
                    graph=ExportConfig(precision=Precision.INT8),
                    precision=precision,
                    data=images,
                    engine="none",
                    measure_latency=False,
                    threads=1,
                )
            )
            assert report.passed, report.parity
            bundles[precision] = Path(report.bundle)
    if KEPT_DIGITS in os.environ:
        shutil.copytree(folder, kept)
    return Digits(images, bundles)


def write_digits(folder: Path, count: int) -> Path:
    """Write ``count`` training digits as PNG files, one folder a class."""
    spec = importlib.util.spec_from_file_location("linglos_example_digits", DIGITS / "digits.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    train, _ = module.load_split()
    for index, (image, target) in enumerate(zip(train.images[:count], train.targets, strict=False)):
        place = folder / str(target)
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{index:03d}.png")
    return folder


@pytest.fixture
def no_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a check forget which file was checked before, so that it must find a fault by what it does."""
    from linglos_deploy.verbs import verdicts

    monkeypatch.setattr(verdicts, "check_identity", lambda *_: ())


@pytest.fixture
def cluster_here(monkeypatch: pytest.MonkeyPatch) -> HereClient:
    """Let every cluster of a check be this process."""
    from linglos_deploy.verbs import check_parity

    client, cluster = here()

    @contextmanager
    def connect(address: str) -> Iterator[Cluster]:
        yield cluster

    monkeypatch.setattr(check_parity, "connected", connect)
    return client
