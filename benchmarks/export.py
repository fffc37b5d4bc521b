"""What the export stage costs on top of ``torch.onnx.export``: model in memory to simplified, checked ONNX on disk.

Both work on the same model of variant ``s`` at 224 x 224, in alternating rounds of one process; the ratio is the median
over the rounds.

python benchmarks/export.py [--rounds 3] [--limit 1.3]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from linglos_deploy.artifacts import TorchModel
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.export import export_onnx
from linglos_deploy.models.loading import ModelSource, load_model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=1.3)
    options = parser.parse_args()
    model = load_model(ModelSource(variant=options.variant))
    with tempfile.TemporaryDirectory() as folder:
        bare_file, ours_file = Path(folder) / "bare.onnx", Path(folder) / "ours.onnx"
        bare(load_model(ModelSource(variant="t")), bare_file)  # imports what the exporter needs
        rounds = [
            (
                seconds(lambda: bare(model, bare_file)),
                seconds(lambda: export_onnx(model, ExportConfig(), out=ours_file)),
            )
            for _ in range(options.rounds)
        ]
    ratio = statistics.median(ours / theirs for theirs, ours in rounds)
    for name, times in zip(("torch.onnx.export", "export_onnx"), zip(*rounds, strict=True), strict=True):
        print(f"{name:<18}{statistics.median(times):6.2f} s, median of {options.rounds}")
    print(f"ratio             {ratio:6.2f}, limit {options.limit}")
    return int(ratio > options.limit)


def bare(model: TorchModel, out: Path) -> None:
    """Export as PyTorch's documentation does."""
    image = torch.zeros(2, 3, *model.preprocess.input_size)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.module,
            (image,),
            out,
            dynamo=True,
            opset_version=ExportConfig().opset,
            external_data=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            verbose=False,
        )


def seconds(work: Callable[[], object]) -> float:
    """Do ``work`` once; return its wall time."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
