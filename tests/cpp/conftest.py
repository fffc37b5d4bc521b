"""Builds of the C++ side and the bundles that its tests open."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from linglos_deploy.artifacts import TorchModel
from linglos_deploy.bundle import GOLDEN, EngineEntry, Manifest, open_bundle, seal_bundle
from linglos_deploy.choices import Weights
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.golden_tensors import read_golden, write_golden
from linglos_deploy.images.preprocessing import Interpolation, PreprocessSpec
from linglos_deploy.models.linglo import LinGlo
from linglos_deploy.models.loading import ModelSource, load_model
from linglos_deploy.models.variants import LinGloConfig
from tests.bundles.make import write_bundle
from tests.cpp.toolchain import (
    BUILD,
    ROOT,
    SOURCE,
    build,
    missing_headers,
    missing_programs,
    only_one_build,
    onnxruntime_headers,
    require,
    run,
)

CHECKPOINT = ROOT / "examples" / "digits" / "linglo_digits.safetensors"
PLANS = (("model.engine", "tensorrt"), ("rtx.engine", "tensorrt-rtx"))
"""Files of the bundle with plans for the fake of TensorRT, which cpp/tests/tensorrt describes, and what runs each."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("cpp"))  # one worker: the builds are shared


@pytest.fixture(scope="session")
def toolchain() -> tuple[str, ...]:
    """Options that every configuration needs; skips, or fails where it must not, without a compiler."""
    require(missing_programs(["cmake", "ninja", "g++"]))
    require(missing_headers(["openssl/evp.h", "nlohmann/json.hpp", "stb/stb_image.h"]))
    with only_one_build():
        return ("-DLINGLOS_WERROR=ON", f"-DONNXRUNTIME_INCLUDE_DIR={onnxruntime_headers()}")


@dataclass(frozen=True, slots=True)
class Installed:
    """The library as a user has it.

    Attributes:
        prefix: Where it is installed.
        consumer: Build folder of a project that found it there.
    """

    prefix: Path
    consumer: Path

    def tool(self, name: str) -> Path:
        return self.prefix / "bin" / name


@pytest.fixture(scope="session")
def installed(toolchain: tuple[str, ...]) -> Installed:
    prefix = BUILD / "prefix"
    with only_one_build():
        folder = build(
            "main",
            SOURCE,
            *toolchain,
            "-DLINGLOS_TESTS=ON",
            f"-DCMAKE_INSTALL_PREFIX={prefix}",
            "-DCMAKE_INSTALL_LIBDIR=lib",
        )
        shutil.rmtree(prefix, ignore_errors=True)
        run(["cmake", "--install", folder])
        found = f"-Dlinglos_DIR={prefix}/lib/cmake/linglos"
        consumer = build("consumer", SOURCE / "tests" / "consumer", found, "-DCMAKE_BUILD_TYPE=Release")
    return Installed(prefix, consumer)


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bundles: every kind that a loader meets."""
    folder = tmp_path_factory.mktemp("bundles")
    digits = load_model(ModelSource(checkpoint=CHECKPOINT))
    noise = np.random.default_rng(5)
    real = [noise.integers(0, 256, (90, 70, 3), dtype=np.uint8)]
    write_bundle(folder / "digits", digits, real=real)
    write_bundle(folder / "pixels", _tiny(), ExportConfig(embed_preprocessing=True))
    write_bundle(folder / "features", _tiny("features"), ExportConfig(dynamic=True))
    write_bundle(folder / "fixed", _tiny(), ExportConfig(batch=2), real=real)
    _variation(folder, "bare", lambda manifest: replace(manifest, golden=None))
    _variation(folder, "engine", _with_engines)
    _variation(folder, "planned", _with_plans)
    _variation(folder, "options", _with_bad_option)
    _drift(folder)
    return folder


def _tiny(task: str = "classify") -> TorchModel:
    import torch

    torch.manual_seed(0)
    config = LinGloConfig(dims=(8, 16, 24, 32), depths=(1, 1, 1, 1), num_classes=4, image_size=32)
    outputs = ("logits",) if task == "classify" else tuple(f"features_{stride}" for stride in (4, 8, 16, 32))
    return TorchModel(
        module=LinGlo(config, task=task).eval(),
        name="tiny",
        output_names=outputs,
        preprocess=PreprocessSpec(input_size=(64, 32), interpolation=Interpolation.BILINEAR, crop_pct=0.875),
        labels=("a", "b", "c", "d"),
        size_divisor=32,
        digest="5" * 64,
        weights=Weights.RANDOM,
        lineage=(),
    )


def _variation(folder: Path, name: str, change: Callable[[Manifest], Manifest]) -> None:
    shutil.copytree(folder / "digits", folder / name)
    manifest = open_bundle(folder / "digits").manifest
    if name == "engine":
        (folder / name / "model.engine").write_bytes(b"ftrt" + bytes(60))
    if name == "planned":
        sizes = struct.pack("<6i", -1, 8, *manifest.preprocessing.input_size, 0, len(manifest.labels))
        for (file, _), magic in zip(PLANS, (b"ftrt", b"vtrt"), strict=True):
            (folder / name / file).write_bytes(magic + sizes)
    seal_bundle(folder / name, change(manifest))


def _with_engines(manifest: Manifest) -> Manifest:
    graph = manifest.graphs[0]
    kinds = {"tensorrt": {"version": "10.3.0", "compute_capability": "8.9"}, "tensorrt-rtx": {}}
    engines = tuple(
        EngineEntry("model.engine", backend, graph.file, "fp32", graph.input, graph.signature, requirements)
        for backend, requirements in kinds.items()
    )
    return replace(manifest, engines=engines)


def _with_plans(manifest: Manifest) -> Manifest:
    graph = manifest.graphs[0]
    engines = tuple(
        EngineEntry(file, backend, graph.file, "fp32", graph.input, graph.signature, {"compute_capability": "8.9"})
        for file, backend in PLANS
    )
    return replace(manifest, engines=engines)


def _with_bad_option(manifest: Manifest) -> Manifest:
    graph = replace(manifest.graphs[0], session_options={"session.disable_prepacking": "perhaps", "": "x"})
    return replace(manifest, graphs=(graph,))


def _drift(folder: Path) -> None:
    shutil.copytree(folder / "digits", folder / "drifted")
    golden = read_golden(folder / "drifted" / GOLDEN)
    golden["model.onnx:logits"] = golden["model.onnx:logits"].copy()
    golden["model.onnx:logits"][0, 0] += 1.0
    write_golden(golden, folder / "drifted" / GOLDEN)
    seal_bundle(folder / "drifted", open_bundle(folder / "digits").manifest)


def as_json(output: bytes) -> dict[str, object]:
    """Parse one JSON object."""
    parsed: dict[str, object] = json.loads(output)
    return parsed
