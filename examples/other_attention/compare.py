"""Export the model of ``model.py`` as written and rewritten, check that they agree, and show what became of each layer.

python -m examples.other_attention.compare build/other_attention
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from examples.other_attention.model import tokens
from linglos_deploy.artifacts import OnnxArtifact, TorchModel
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.exporters.config import Decomposition, ExportConfig
from linglos_deploy.exporters.decompositions.records import read_attention
from linglos_deploy.exporters.export import export_onnx
from linglos_deploy.preprocessing import PreprocessSpec


def main(arguments: list[str] | None = None) -> float:
    """Return the largest difference between the two graphs' logits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=64, help="height and width of the images")
    options = parser.parse_args(arguments)
    model = TorchModel(
        module=tokens(),
        name="tokens",
        output_names=("logits",),
        preprocess=PreprocessSpec(input_size=(options.size, options.size)),
        labels=(),
        size_divisor=4,
        digest="0" * 64,
        synthetic_weights=True,
        lineage=(),
    )
    graphs = [
        export_onnx(model, ExportConfig(decomposition=form), out=options.folder / f"{form}.onnx")
        for form in (Decomposition.REFERENCE, Decomposition.AUTO)
    ]
    for record in read_attention(graphs[1].path):
        saved = 1 - record.macs_after / record.macs_before
        print(f"{record.path}: {record.form}, {saved:.0%} fewer multiply-accumulates; {record.reason}")
    image = np.random.default_rng(0).standard_normal((2, 3, options.size, options.size)).astype(np.float32)
    written, rewritten = (_logits(graph, image) for graph in graphs)
    with torch.no_grad():
        trained = model.module(torch.from_numpy(image)).numpy()
    difference = float(max(np.abs(written - trained).max(), np.abs(rewritten - trained).max()))
    print(f"largest difference from PyTorch: {difference:.1e}")
    return difference


def _logits(graph: OnnxArtifact, image: np.ndarray) -> np.ndarray:
    with OnnxRuntime(threads=1).open(graph) as runner:
        return runner.run({"image": image})["logits"].copy()


if __name__ == "__main__":
    main()
