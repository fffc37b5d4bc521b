"""How noisy is the reference itself? A graph cannot be held to more than its reference's own float32 holds."""

from __future__ import annotations

import numpy as np

from linglos_deploy.artifacts import OnnxArtifact, TorchModel
from linglos_deploy.backends.batching import AnyBatch
from linglos_deploy.backends.images_first import ImagesFirst
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.backends.pytorch import float32_noise
from linglos_deploy.parity.metrics import MOST_DB, compare
from linglos_deploy.signature import Batch


def pytorch_noise(model: TorchModel, images: Batch) -> dict[str, float]:
    """Return the SQNR of PyTorch's float32 answers to its own float64 answers, per output; 300 dB at most.

    A module that cannot run in float64 gives nothing: then the default limits hold.
    """
    noise = float32_noise(model, [images]) or {}
    return {name: float(np.clip(found.sqnr_db, -MOST_DB, MOST_DB)) for name, found in noise.items()}


def graph_noise(graph: OnnxArtifact, images: Batch, *, threads: int = 0) -> dict[str, float]:
    """Return the SQNR of a graph's answers to those of the same graph with every node computed as it stands."""
    answers = []
    for optimize in (False, True):
        with ImagesFirst(AnyBatch(OnnxRuntime(threads=threads, optimize=optimize))).open(graph) as runner:
            answers.append({name: np.array(value) for name, value in runner.run(images).items()})
    plain, fused = answers
    return {name: compare(plain[name], fused[name]).sqnr_db for name in plain if plain[name].ndim}
