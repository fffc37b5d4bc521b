"""How well the INT8 text map of OCR detectors agrees with float32's, beside onnxruntime's own quantizer, in one run.

    python -m benchmarks.foreign.run --files FOLDER --json benchmarks/foreign/results.json

Two detectors as PyPI ships them, calibrated on pictures of text that are drawn from a seed and compared on others. Text
is where the map is above 0.3, as the detectors' own post-processing has it; the figure is intersection over union of
all pixels of all pictures. onnxruntime's quantizer gets its recommended pre-processing, QDQ form, its default MinMax
calibration, 8-bit scales per channel and the same pictures. Both graphs run on the exact Q/DQ arithmetic, so that what
is compared are the graphs and not the kernels of this CPU.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx

from benchmarks.foreign.files import fetch
from benchmarks.foreign.pictures import write_pictures
from linglos_deploy import api
from linglos_deploy.artifacts import open_onnx, tool_versions
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.graph.inputs import preprocessing_for
from linglos_deploy.graph.opset import to_opset
from linglos_deploy.images.dataset import ImageDataset, open_dataset
from linglos_deploy.images.options import PreprocessOptions
from linglos_deploy.images.preprocessing import Color

DETECTORS = ("ocr-detector-v6", "ocr-detector-v4")
SIZE = (480, 640)
THRESHOLD = 0.3
OPTIONS = PreprocessOptions(input_size=SIZE, mean=(0.5,), std=(0.5,), color=Color.BGR)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well two quantizers' maps agree with float32's.

    Attributes:
        file: The detector.
        ours: Intersection over union of our INT8 map.
        onnxruntime: The same of onnxruntime's quantizer.
        text_share: Share of the pixels that are text by float32.
        pictures: Number of pictures compared.
    """

    file: str
    ours: float
    onnxruntime: float
    text_share: float
    pictures: int


def compare(name: str, files: Path, *, calibration: int, pictures: int, scratch: Path) -> Agreement:
    """Quantize one detector both ways and compare."""
    model = fetch(name, files)
    seen = write_pictures(scratch / "seen", range(calibration), height=SIZE[0], width=SIZE[1])
    unseen = write_pictures(scratch / "unseen", range(1000, 1000 + pictures), height=SIZE[0], width=SIZE[1])
    spec = preprocessing_for(open_onnx(model), OPTIONS)
    assert spec is not None
    api.calibrate(model, seen, scratch / "seen.table", preprocess=OPTIONS)
    api.quantize(model, scratch / "ours.onnx", table=scratch / "seen.table")
    _theirs(model, open_dataset(seen, spec), scratch / "theirs.onnx", scratch)
    images = open_dataset(unseen, spec)
    reference = _text(model, images)
    return Agreement(
        file=model.name,
        ours=_overlap(reference, _text(scratch / "ours.onnx", images)),
        onnxruntime=_overlap(reference, _text(scratch / "theirs.onnx", images)),
        text_share=float(reference.mean()),
        pictures=pictures,
    )


def _theirs(model: Path, seen: ImageDataset, out: Path, scratch: Path) -> None:
    """Quantize as onnxruntime recommends."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    signature = open_onnx(model).signature

    class Reader(CalibrationDataReader):
        """Gives one picture at a time."""

        def __init__(self) -> None:
            self.batches: Iterator[dict[str, np.ndarray]] = (
                dict(batch) for batch in seen.batches(1, signature=signature)
            )

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    onnx.save(to_opset(onnx.load(model), 17), scratch / "opset17.onnx")
    with chdir(scratch):  # where it leaves a file behind when it fails
        try:
            quant_pre_process(scratch / "opset17.onnx", scratch / "prepared.onnx")
        except Exception:  # its symbolic inference gives up on some graphs, and its advice is to skip it then
            quant_pre_process(scratch / "opset17.onnx", scratch / "prepared.onnx", skip_symbolic_shape=True)
    quantize_static(scratch / "prepared.onnx", out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True)


def _text(model: Path, images: ImageDataset) -> np.ndarray:
    """Return where a detector sees text, bool of shape (pictures, H, W)."""
    artifact = open_onnx(model)
    with OnnxRuntime().open(artifact) as runner:
        maps = [
            np.array(runner.run(batch)[artifact.signature.output_names[0]])
            for batch in images.batches(1, signature=artifact.signature)
        ]
    return np.concatenate(maps)[:, 0] > THRESHOLD


def _overlap(expected: np.ndarray, found: np.ndarray) -> float:
    return float((expected & found).sum() / (expected | found).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=Path, required=True, help="folder of the ONNX files; fetched if need be")
    parser.add_argument("--calibration", type=int, default=48)
    parser.add_argument("--pictures", type=int, default=48)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)  # onnxruntime's quantizer advises to do what was done
    results = []
    for name in DETECTORS:
        with tempfile.TemporaryDirectory() as scratch:
            result = compare(
                name,
                arguments.files,
                calibration=arguments.calibration,
                pictures=arguments.pictures,
                scratch=Path(scratch),
            )
        print(f"{result.file}: ours {result.ours:.4f}, onnxruntime's {result.onnxruntime:.4f}")
        results.append(result)
    if arguments.json is not None:
        report = {
            "tools": tool_versions("linglos-deploy", "onnx", "onnxruntime", "numpy", "pillow"),
            "calibration_pictures": arguments.calibration,
            "results": [asdict(result) for result in results],
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
