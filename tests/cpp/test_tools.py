from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.bundle import open_bundle
from linglos_deploy.images.preprocessing import normalize, to_pixels, to_rgb
from linglos_deploy.reports.profile import Latency
from tests.cpp.conftest import Installed, as_json
from tests.cpp.toolchain import run


def python_logits(bundle_path: Path, image: Image.Image) -> np.ndarray:
    bundle = open_bundle(bundle_path)
    spec = bundle.manifest.preprocessing
    with OnnxRuntime(threads=1).open(bundle.graph(bundle.manifest.graphs[0])) as runner:
        return np.asarray(runner.run({"image": normalize(to_pixels(to_rgb(image), spec)[None], spec)})["logits"][0])


def images(folder: Path) -> list[Path]:
    noise = np.random.default_rng(3).integers(0, 256, (45, 60, 4), dtype=np.uint8)
    kinds = {
        "rgb.png": Image.fromarray(noise[..., :3].copy()),
        "rgba.png": Image.fromarray(noise),
        "grey.png": Image.fromarray(noise[..., 0].copy()),
        "grey16.png": Image.fromarray(noise[..., 0].astype(np.uint16) * 200),
        "palette.png": Image.fromarray(noise[..., :3].copy()).quantize(64),
        "rgb.bmp": Image.fromarray(noise[..., :3].copy()),
        "rgb.ppm": Image.fromarray(noise[..., :3].copy()),
    }
    for name, image in kinds.items():
        image.save(folder / name)
    return [folder / name for name in kinds]


def test_classify_decodes_every_lossless_kind_as_python_does(
    installed: Installed, bundles: Path, tmp_path: Path
) -> None:
    paths = images(tmp_path)
    command = [
        installed.tool("linglos-classify"),
        bundles / "digits",
        *paths,
        "--json",
        "--top",
        "10",
        "--threads",
        "1",
    ]
    lines = run(command).decode().splitlines()
    assert len(lines) == len(paths)
    for path, line in zip(paths, lines, strict=True):
        answer = json.loads(line)
        expected = python_logits(bundles / "digits", Image.open(path))
        assert answer["image"] == str(path)
        ordered = [entry["logit"] for entry in answer["predictions"]]
        assert ordered == sorted(ordered, reverse=True)
        for entry in answer["predictions"]:
            assert entry["logit"] == pytest.approx(float(expected[entry["index"]]), abs=1e-5), path.name
            assert entry["label"] == str(entry["index"])
        assert sum(entry["probability"] for entry in answer["predictions"]) == pytest.approx(1)


def test_classify_reads_jpeg_and_prints_text(installed: Installed, bundles: Path, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), (200, 100, 50)).save(tmp_path / "flat.jpg")
    said = run([installed.tool("linglos-classify"), bundles / "digits", tmp_path / "flat.jpg", "--top", "2"]).decode()
    assert said.startswith(f"{tmp_path / 'flat.jpg'}\n")
    assert said.count("%") == 2


def test_selftest_says_which_stage_drifted_and_by_how_much(installed: Installed, bundles: Path) -> None:
    report = as_json(run([installed.tool("linglos-selftest"), bundles / "digits", "--json"]))
    assert report["passed"] is True
    report = as_json(run([installed.tool("linglos-selftest"), bundles / "drifted", "--json"], code=1))
    failed = [check for check in report["checks"] if not check["passed"]]  # type: ignore[attr-defined]
    assert [(check["stage"], check["name"]) for check in failed] == [("engine", "logits"), ("output", "logits")]
    assert failed[0]["differing"] >= 1
    assert failed[0]["max_abs"] == pytest.approx(1, abs=1e-5)
    assert failed[0]["limit"] < 0.1


def test_bench_reports_the_statistics_of_profile(installed: Installed, bundles: Path) -> None:
    options = ["--rounds", "2", "--runs", "8", "--seconds", "0", "--batch", "3", "--threads", "1", "--imgsz", "50,60"]
    row = as_json(run([installed.tool("linglos-bench"), bundles / "digits", "--json", *options]))
    for measured in (row["latency"], row["from_pixels"]["latency"]):  # type: ignore[index]
        latency = Latency(**{**measured, "round_medians": tuple(measured["round_medians"])})
        assert latency.runs == 8
        assert len(latency.round_medians) == 2
        assert latency.minimum <= latency.p50 <= latency.p90 <= latency.p99 <= latency.maximum
        assert math.isfinite(latency.variation)
    assert row["batch"] == 3
    assert row["digest"] == open_bundle(bundles / "digits").manifest.files["model.onnx"].sha256
    text = run([installed.tool("linglos-bench"), bundles / "pixels", *options]).decode()
    assert "images/s" in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "needs a bundle"),
        (["BUNDLE", "--no-such-option"], 2, "no option '--no-such-option'"),
        (["BUNDLE", "--threads", "many"], 2, "--threads takes a whole number"),
        (["BUNDLE", "--threads"], 2, "--threads needs a value"),
        (["BUNDLE", "--backend", "tflite"], 2, "--backend takes"),
        (["BUNDLE", "--device", "tpu"], 2, "--device takes"),
        (["BUNDLE", "--precision", "int8"], 2, "has no int8 graph"),
        (["BUNDLE", "--device", "cuda:0"], 3, "cannot use CUDA device 0"),
        (["BUNDLE", "--backend", "tensorrt"], 4, "No TensorRT engine can run here"),
        (["/nowhere"], 4, "is not a bundle"),
    ],
)
def test_tools_say_what_is_wrong(
    arguments: list[str], code: int, message: str, installed: Installed, bundles: Path
) -> None:
    for tool in ("linglos-selftest", "linglos-bench"):
        words = [str(bundles / "digits") if word == "BUNDLE" else word for word in arguments]
        done = subprocess.run([installed.tool(tool), *words], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == code, done.stderr
        assert message in done.stderr
        assert done.stdout == ""


def test_a_file_that_is_no_image_is_refused(installed: Installed, bundles: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no image")
    for name in ("note.txt", "missing.png"):
        command = [installed.tool("linglos-classify"), bundles / "digits", tmp_path / name]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode in {2, 4}
        assert name in done.stderr
