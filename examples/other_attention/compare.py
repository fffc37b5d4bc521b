"""Export the model of ``model.py`` as written and rewritten, show each layer's form, check that they agree, time both.

python -m examples.other_attention.compare build/other_attention
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

from examples.other_attention.model import tokens
from linglos_deploy.artifacts import OnnxArtifact, TorchModel
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.choices import Weights
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.decompositions.records import read_attention
from linglos_deploy.exporters.export import export_onnx
from linglos_deploy.images.preprocessing import PreprocessSpec


def main(arguments: list[str] | None = None) -> float:
    """Return the largest difference between the two graphs' logits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=64, help="height and width of the images")
    parser.add_argument("--rounds", type=int, default=30, help="how often both graphs are timed, in turn")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds} where at least 1 was expected")
    model = TorchModel(
        module=tokens(),
        name="tokens",
        output_names=("logits",),
        preprocess=PreprocessSpec(input_size=(options.size, options.size)),
        labels=(),
        size_divisor=4,
        digest="0" * 64,
        weights=Weights.RANDOM,
        lineage=(),
    )
    graphs = [
        export_onnx(model, ExportConfig(decomposition=form), out=options.folder / f"{form}.onnx")
        for form in ("reference", "auto")
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
    before, after, gain = _times(graphs, image[:1], rounds=options.rounds)
    print(
        f"one image, one thread: {before:.2f} ms as written, {after:.2f} ms rewritten, {gain:.2f} times as fast"
        f"\n({options.rounds} rounds of a small model whose MLPs and norms are the same in both: a hint, no benchmark)"
    )
    return difference


def _logits(graph: OnnxArtifact, image: np.ndarray) -> np.ndarray:
    with OnnxRuntime(threads=1).open(graph) as runner:
        return runner.run({"image": image})["logits"].copy()


def _times(graphs: list[OnnxArtifact], image: np.ndarray, *, rounds: int, runs: int = 20) -> tuple[float, float, float]:
    """Return both graphs' CPU milliseconds for one run, and the first's over the second's: medians over rounds."""
    runtime = OnnxRuntime(threads=1)
    with runtime.open(graphs[0]) as written, runtime.open(graphs[1]) as rewritten:
        samples = []
        for _ in range(rounds + 1):  # the first one warms up
            pair = []
            for runner in (written, rewritten):
                start = time.process_time()
                for _ in range(runs):
                    runner.run({"image": image})
                pair.append(1e3 * (time.process_time() - start) / runs)
            samples.append((*pair, pair[0] / pair[1]))
    before, after, gain = (median(values) for values in zip(*samples[1:], strict=True))
    return before, after, gain


if __name__ == "__main__":
    main()
