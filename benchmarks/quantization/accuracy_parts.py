"""What each part of INT8's accuracy gives alone, on the digits as trained and with channels that are far louder.

    python benchmarks/quantization/accuracy_parts.py

Channels are made louder by exact rewrites, so that float32 answers as before: three key channels of every attention
layer and two of the last norm by a factor, what reads them softer by the same one. Calibrated on 256 training images,
measured on the 450 held-out ones, ONNX Runtime in its exact mode.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from linglos_deploy.artifacts import OnnxArtifact
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.calibration.calibrate import calibrate
from linglos_deploy.choices import Precision
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.export import export_onnx
from linglos_deploy.images.dataset import open_dataset
from linglos_deploy.images.preprocessing import normalize, to_pixels
from linglos_deploy.models.loading import ModelSource, load_model
from linglos_deploy.quantization.apply import apply_plan
from linglos_deploy.quantization.plan import plan_quantization
from linglos_deploy.quantization.scheme import QuantScheme

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
FACTORS = (1.0, 20.0, 150.0)
PARTS = {
    ("equalize",): {"mse": "neither", "weighted": "weighted ranges"},
    (): {"mse": "scales moved", "weighted": "both"},
}
"""By what the export leaves out, and then by method."""

BATCH = 50
RUNTIME = OnnxRuntime(threads=1)


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement.

    Attributes:
        factor: How much louder the channels are.
        parts: Which parts were on.
        decibels: SQNR of the logits.
        wrong: Held-out images that INT8 gets wrong, and float32.
        wrong_in_float: The same of float32.
        seconds: Time of making the plan.
    """

    factor: float
    parts: str
    decibels: float
    wrong: int
    wrong_in_float: int
    seconds: float


def main() -> None:
    """Measure every part on every network, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where the figures go, too")
    arguments = parser.parse_args()
    sys.path.insert(0, str(DIGITS))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for factor in FACTORS:
            for without, methods in PARTS.items():
                rows += measure(factor, without, methods, Path(folder))
                print(*rows[-len(methods) :], sep="\n", file=sys.stderr, flush=True)
    print("| parts | " + " | ".join(f"x {factor:g}" for factor in FACTORS) + " |")
    print("|---|" + "---|" * len(FACTORS))
    for parts in dict.fromkeys(row.parts for row in rows):
        cells = [f"{row.decibels:.1f} dB, {row.wrong} wrong" for row in rows if row.parts == parts]
        print(f"| {parts} | " + " | ".join(cells) + " |")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def measure(factor: float, without: tuple[str, ...], methods: dict[str, str], folder: Path) -> list[Row]:
    """Export and calibrate once; quantize by each method and compare with float32."""
    from digits import load_split

    source = load_model(ModelSource(checkpoint=DIGITS / "linglo_digits.safetensors"))
    assert source.preprocess is not None
    make_louder(source.module, factor)
    config = ExportConfig(precision=Precision.INT8, without=without)
    graph = export_onnx(source, config, out=folder / "model.onnx")
    train, heldout = load_split()
    seen, unseen = (
        normalize(np.stack([to_pixels(image, source.preprocess) for image in images]), source.preprocess)
        for images in (train.images[:256], heldout.images)
    )
    np.save(folder / "seen.npy", seen)
    images = open_dataset(folder / "seen.npy", source.preprocess)
    table = calibrate(graph, images, runtime=OnnxRuntime(threads=1, reuse_outputs=True))
    expected = answers(graph, unseen)
    rows = []
    for method, parts in methods.items():
        start = time.perf_counter()
        plan = plan_quantization(graph, table, QuantScheme(method=method))
        seconds = time.perf_counter() - start
        found = answers(apply_plan(graph, plan, out=folder / "model.int8.onnx"), unseen)
        noise = float(np.square(found - expected).sum())
        rows.append(
            Row(
                factor=factor,
                parts=parts,
                decibels=10 * float(np.log10(np.square(expected).sum() / noise)),
                wrong=int((found.argmax(axis=1) != heldout.targets).sum()),
                wrong_in_float=int((expected.argmax(axis=1) != heldout.targets).sum()),
                seconds=seconds,
            )
        )
    return rows


def answers(graph: OnnxArtifact, images: np.ndarray) -> np.ndarray:
    """Return the logits, float64 N x classes."""
    with RUNTIME.open(graph) as runner:
        batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
        return np.concatenate([np.array(runner.run({"image": batch})["logits"], np.float64) for batch in batches])


def make_louder(module: torch.nn.Module, factor: float) -> None:
    """Scale some channels by ``factor`` and what reads them by its inverse, in place."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in module.modules():
            if type(part).__name__ == "KeyOnlyAttention":
                loud = torch.randperm(part.key.out_channels, generator=generator)[:3]
                part.key.weight[loud] *= factor
                part.key.bias[loud] *= factor
                for reader in (part.gate, part.out):
                    reader.weight[:, loud] /= factor
        loud = torch.randperm(len(module.norm.weight), generator=generator)[:2]
        module.norm.weight[loud] *= factor
        module.norm.bias[loud] *= factor
        module.head.weight[:, loud] /= factor


if __name__ == "__main__":
    main()
