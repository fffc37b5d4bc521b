"""Files that other people ship, from start to end: each step succeeds or says clearly why it cannot.

The files come from wheels on PyPI (``benchmarks/foreign/files.py``) and stay in ``build/foreign``. Where they cannot be
had, the tests are skipped and say how to get them.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from benchmarks.foreign.files import UnavailableError, fetch
from benchmarks.foreign.pictures import write_pictures
from benchmarks.foreign.run import compare
from linglos_deploy.artifacts import open_onnx
from tests.commandline import run

KEPT = Path(__file__).parents[2] / "build" / "foreign"
QUICK = ("--processes", "1", "--rounds", "1", "--seconds", "0", "--threads", "1")


@dataclass(frozen=True, slots=True)
class Kind:
    """How a file is fed.

    Attributes:
        options: What says how images become its input.
        size: Height and width of the pictures; ``None`` where it takes arrays.
        shapes: Of its inputs, for engines.
        builds: Whether TensorRT-RTX compiles it.
    """

    options: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    shapes: tuple[str, ...] = ()
    builds: bool = True


HALF = ("--mean", "0.5", "--std", "0.5", "--color", "bgr")
SAMPLES = ("input=1x576", "state=2x1x128")
KINDS = {
    "ocr-detector-v6": Kind((*HALF, "--imgsz", "160x192"), (160, 192), ("x=1x3x160x192",)),
    "ocr-detector-v4": Kind((*HALF, "--imgsz", "160x192"), (160, 192), ("x=1x3x160x192",)),
    "ocr-recognizer-v6": Kind((*HALF, "--imgsz", "48x320"), (48, 320), ("x=1x3x48x320",)),
    "ocr-recognizer-v4": Kind((*HALF, "--imgsz", "48x320"), (48, 320), ("x=1x3x48x320",)),
    "ocr-classifier": Kind((*HALF, "--imgsz", "48x192"), (48, 192), ("x=1x3x48x192",)),
    "layout": Kind(HALF, (800, 608)),
    "orientation": Kind(("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"), (224, 224), ("x=1x3x224x224",)),
    "nude-detector": Kind(("--mean", "0", "--std", "1", "--imgsz", "320"), (320, 320), ("images=1x3x320x320",)),
    "voice": Kind(shapes=SAMPLES, builds=False),
    "voice-half": Kind(shapes=SAMPLES, builds=False),
}


def real_file(name: str) -> Path:
    try:
        return fetch(name, KEPT)
    except UnavailableError as error:
        pytest.skip(str(error))


def feed(name: str, model: Path, folder: Path) -> tuple[Path, tuple[str, ...]]:
    """Return calibration data of the file's kind, and the options that say how they become input."""
    kind = KINDS[name]
    if kind.size is not None:
        height, width = kind.size
        return write_pictures(folder / "pictures", range(6), height=height, width=width), kind.options
    time = np.arange(6 * 576).reshape(6, 576) / 16000
    voice = (np.sin(2 * np.pi * 180 * time) * np.sin(2 * np.pi * 3 * time) * 0.2).astype(np.float32)
    arrays = {"input": voice, "state": np.zeros((2, 6, 128), np.float32), "sr": np.array(16000)}
    names = open_onnx(model).signature.input_names
    np.savez(folder / "voice.npz", **{name: arrays[name] for name in names})  # type: ignore[arg-type]
    return folder / "voice.npz", ()


def go_all_the_way(name: str, folder: Path) -> None:
    """Inspect, calibrate, quantize, check and measure one file."""
    model = real_file(name)
    data, options = feed(name, model, folder)
    table, quantized = folder / "seen.table", folder / "int8.onnx"
    assert model.name in run("inspect", model).expect(0).stdout
    run("calibrate", model, "--data", data, *options, "--threads", "1", "-q", "-o", table).expect(0)
    run("quantize", model, "--table", table, "-q", "-o", quantized).expect(0)
    assert json.loads(run("inspect", quantized, "--json").expect(0).stdout)
    checked = run("parity", quantized, "--reference", model, "--data", data, *options, "--threads", "1", "--json", "-q")
    assert checked.exit_code in (0, 1), checked.stderr
    measure = ("--data", data) if KINDS[name].size is None else ("--imgsz", "x".join(map(str, KINDS[name].size or ())))
    run("profile", model, quantized, *measure, *QUICK, "-q").expect(0)


def test_a_classifier_of_text_directions_goes_all_the_way(tmp_path: Path) -> None:
    go_all_the_way("ocr-classifier", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in KINDS if name != "ocr-classifier"])
def test_a_real_file_goes_all_the_way(name: str, tmp_path: Path) -> None:
    go_all_the_way(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_real_file_becomes_an_engine_or_says_why_not(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("TensorRT-RTX is not installed: pip install 'linglos-deploy[tensorrt-rtx]'")
    kind = KINDS[name]
    shapes = [word for shape in kind.shapes for word in ("--shape", shape)]
    done = run("build", real_file(name), "--engine", "tensorrt-rtx", *shapes, "-q", "-o", tmp_path)
    if kind.builds:
        done.expect(0)
        assert list(tmp_path.glob("*.engine"))
    else:
        done.expect(4, "cannot build", "branches with If or Loop")


@pytest.mark.slow
def test_a_voice_model_that_lies_inside_an_if_says_that_there_is_nothing_to_calibrate(tmp_path: Path) -> None:
    model = real_file("voice-if")
    np.savez(
        tmp_path / "voice.npz",
        input=np.zeros((2, 576), np.float32),
        state=np.zeros((2, 1, 128), np.float32),
        sr=np.array(16000),
    )
    run("calibrate", model, "--data", tmp_path / "voice.npz", "-q", "-o", tmp_path / "t").explain(
        4, "nothing to calibrate", "lie inside If"
    )


@pytest.mark.slow
def test_the_newer_detector_finds_the_same_text_in_int8_and_more_of_it_than_onnxruntime_s_quantizer(
    tmp_path: Path,
) -> None:
    real_file("ocr-detector-v6")
    found = compare("ocr-detector-v6", KEPT, calibration=16, pictures=8, scratch=tmp_path)
    assert found.text_share > 0.005
    assert found.ours >= 0.97
    assert found.ours > found.onnxruntime
