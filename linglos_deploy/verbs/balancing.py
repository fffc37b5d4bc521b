"""Scales of channels move by what pictures show, and stay moved where INT8 then answers better to other pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from linglos_deploy.artifacts import OnnxArtifact, load_onnx
from linglos_deploy.backends.base import Runtime
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.calibration.calibrate import CalibrationConfig, calibrate
from linglos_deploy.exporters.balancing import ChannelsSeen, balance_channels, balanced_tensors
from linglos_deploy.images.dataset import ImageDataset
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.quantization.apply import apply_plan
from linglos_deploy.quantization.plan import plan_quantization
from linglos_deploy.quantization.scheme import QuantScheme

LEAST_IMAGES = 16
"""Fewer show too little, once half of them are kept to judge by."""

MOST_IMAGES = 256
_BATCH = 8


@dataclass(frozen=True, slots=True)
class Balancing:
    """What scales are moved by.

    Attributes:
        images: Calibration images; half of at most :data:`MOST_IMAGES` of them show what channels reach, half judge.
        scheme: How the INT8 graph is made that is judged, in the placement that every runtime reads.
        runtime: Runs the graphs.
        threads: Threads of calibration, 0 for the runtime's own choice.
        seed: Of the choice of images.
    """

    images: ImageDataset
    scheme: QuantScheme
    runtime: Runtime
    threads: int = 0
    seed: int = 0


def balance(graph: OnnxArtifact, by: Balancing, *, progress: Progress = SILENT) -> OnnxArtifact:
    """Return the graph, rewritten in its place with scales moved if INT8 leaves more of its answers then.

    Made-up images show nothing, and a few judge nothing: the graph stays as it is.
    """
    tensors = balanced_tensors(load_onnx(graph.path))
    if by.images.synthetic or len(by.images) < LEAST_IMAGES or not tensors:
        return graph
    images = by.images.limit(MOST_IMAGES, seed=by.seed)
    shown, judging = images.shard(1, 2), images.shard(2, 2)
    table = calibrate(
        graph,
        shown,
        runtime=OnnxRuntime(threads=by.threads, reuse_outputs=True),
        config=CalibrationConfig(tensors=tensors, per_channel=True),
        progress=progress,
    )
    seen = {
        name: ChannelsSeen(statistics.channels.absolute_maximum.astype(np.float64), statistics.channels.mean_square)
        for name, statistics in table.tensors.items()
        if statistics.channels is not None and not statistics.non_finite
    }
    with TemporaryDirectory(prefix="linglos-balance-") as folder:
        moved = balance_channels(graph, seen, out=Path(folder) / "moved.onnx")
        if moved is graph:
            return graph
        before, after = (
            int8_noise(each, shown, judging, by, Path(folder) / "int8.onnx", progress) for each in (graph, moved)
        )
    return balance_channels(graph, seen, out=graph.path) if after < before else graph


def int8_noise(
    graph: OnnxArtifact, shown: ImageDataset, judging: ImageDataset, by: Balancing, out: Path, progress: Progress
) -> float:
    """Return the mean share of noise in the outputs of a graph in INT8; infinite where an answer is not finite.

    Args:
        graph: The float32 graph.
        shown: What ranges come from.
        judging: What is answered.
        by: How INT8 is made and run.
        out: Where the INT8 graph goes.
        progress: Told of the calibration.
    """
    table = calibrate(graph, shown, runtime=OnnxRuntime(threads=by.threads, reuse_outputs=True), progress=progress)
    rounded = apply_plan(graph, plan_quantization(graph, table, by.scheme), out=out)
    noise: dict[str, float] = {}
    signal: dict[str, float] = {}
    with by.runtime.open(graph) as exact, by.runtime.open(rounded) as runner:
        for batch in judging.batches(_BATCH, signature=graph.signature):
            found = runner.run(batch)
            for name, answer in exact.run(batch).items():
                wanted = np.asarray(answer, np.float64)
                error = np.square(np.asarray(found[name], np.float64) - wanted).sum()
                noise[name] = noise.get(name, 0.0) + float(error)
                signal[name] = signal.get(name, 0.0) + float(np.square(wanted).sum())
    shares = [noise[name] / signal[name] for name in noise if signal[name] > 0]
    mean = sum(shares) / len(shares) if shares else 0.0
    return mean if math.isfinite(mean) else math.inf
