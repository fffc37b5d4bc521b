"""The main job on real images: the digits checkpoint to a checked INT8 bundle, as ``make demo`` does it."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from linglos_deploy.bundle import open_bundle, seal_bundle
from linglos_deploy.choices import Weights
from tests.commandline import run

DIGITS = Path(__file__).parents[1] / "examples" / "digits"
HAS_RTX = importlib.util.find_spec("tensorrt_rtx") is not None

pytestmark = pytest.mark.xdist_group("digits")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, str(DIGITS / "make_images.py"), "--output", str(folder / "digits")]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def report(folder: Path) -> Any:
    made = run(
        *("export", "--checkpoint", DIGITS / "linglo_digits.safetensors", "--int8", "--no-latency", "--json"),
        *("--data", folder / "digits/train", "--images", 64, "--eval", folder / "digits/heldout"),
        *("--max-accuracy-drop", 0.5, "--engine", "tensorrt-rtx" if HAS_RTX else "none", "-o", folder),
    )
    return made.expect(0).json


def test_int8_keeps_the_accuracy_on_held_out_images(report: Any) -> None:
    rows = {row["model"]: 100 * row["correct"] / row["count"] for row in report["accuracy"]["rows"]}
    assert rows["PyTorch"] >= 98
    assert rows["model.onnx"] == rows["PyTorch"]
    assert rows["PyTorch"] - rows["model.int8.onnx"] <= 0.5
    assert report["accuracy"]["passed"]


def test_every_verdict_passes(report: Any) -> None:
    assert report["passed"] is True
    assert {parity["candidate"]: parity["passed"] for parity in report["parity"]} == {
        "model.onnx": True,
        "model.int8.onnx": True,
        "model.int8.openvino.onnx": True,
        "model.int8.onnxruntime-x86.onnx": True,
    }
    assert not report["warnings"]


def test_the_bundle_opens_and_says_that_it_passed(folder: Path, report: Any) -> None:
    manifest = open_bundle(folder / report["name"]).manifest
    assert manifest.passed
    assert manifest.weights is Weights.TRAINED
    assert manifest.synthetic_calibration is False
    assert [step.stage for step in manifest.graphs[0].lineage] == ["load", "export", "balance"]
    assert manifest.labels == tuple("0123456789")
    assert {"calibration.table", "plan.json", "model.onnx", "model.int8.onnx"} <= manifest.files.keys()


@pytest.mark.skipif(not HAS_RTX, reason="tensorrt-rtx is missing; pip install 'linglos-deploy[tensorrt-rtx]'")
def test_the_engine_lies_in_the_bundle_with_its_sidecar(folder: Path, report: Any) -> None:
    bundle = folder / report["name"]
    (engine,) = [entry["file"] for entry in report["engines"] if entry["file"]]
    assert (bundle / engine).stat().st_size > 100_000
    described = run("inspect", bundle / engine, "--json").expect(0).json
    assert described["content"]["backend"] == "tensorrt-rtx"
    assert open_bundle(bundle).manifest.engines[0].source == "model.int8.onnx"


def test_parity_of_the_bundle_passes_without_and_with_images(folder: Path, report: Any) -> None:
    bundle = folder / report["name"]
    run("parity", bundle, "-q").expect(0)
    images = ("--data", folder / "digits/heldout", "--images", 32)
    run("parity", bundle, "--checkpoint", DIGITS / "linglo_digits.safetensors", *images, "-q").expect(0)


@pytest.mark.parametrize("graph", ["model.onnx", "model.int8.onnx"])
def test_a_damaged_weight_fails_the_check_although_the_seal_is_whole(
    folder: Path, report: Any, graph: str, tmp_path: Path
) -> None:
    bundle = tmp_path / "damaged"
    shutil.copytree(folder / report["name"], bundle)
    manifest = open_bundle(bundle).manifest
    damage_largest_weight(bundle / graph)
    seal_bundle(bundle, manifest)
    checked = run("parity", bundle, "--json").expect(1).json["reports"]
    assert {entry["candidate"]: entry["passed"] for entry in checked}[graph] is False


def damage_largest_weight(path: Path) -> None:
    """Reverse the output channels of the largest weight of the graph."""
    model = onnx.load(path)
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weight.CopyFrom(
        onnx.numpy_helper.from_array(np.ascontiguousarray(onnx.numpy_helper.to_array(weight)[::-1]), weight.name)
    )
    onnx.save(model, path)
