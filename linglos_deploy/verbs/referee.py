"""How noisy is the reference itself? A graph cannot be held to more than its reference's own float32 holds."""

from __future__ import annotations

import numpy as np

from linglos_deploy.artifacts import OnnxArtifact, TorchModel
from linglos_deploy.backends.images_first import ImagesFirst, in_layout
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.backends.pytorch import float32_noise
from linglos_deploy.parity.metrics import MOST_DB, compare
from linglos_deploy.signature import Batch, ModelSignature


def pytorch_noise(model: TorchModel, images: Batch) -> dict[str, float]:
    """Return the SQNR of PyTorch's float32 answers to its own float64 answers, per output; 300 dB at most.

    A module that cannot run in float64 gives nothing: then the default limits hold.
    """
    noise = float32_noise(model, in_layout(images, ModelSignature(model.inputs, ()))) or {}
    return {name: float(np.clip(found.sqnr_db, -MOST_DB, MOST_DB)) for name, found in noise.items()}


def graph_noise(graph: OnnxArtifact, images: Batch, *, threads: int = 0) -> dict[str, float]:
    """Return how closely a graph's answers can be known, per output: the smaller of two SQNR.

    One is that to the same graph with every node computed as it stands, the other that to its answers on inputs whose
    last bit is another one.
    """
    answers = []
    for optimize in (False, True):
        with ImagesFirst(OnnxRuntime(threads=threads, optimize=optimize)).open(graph) as runner:
            answers.append({name: np.array(value) for name, value in runner.run(images).items()})
            if optimize:
                answers.append({name: np.array(value) for name, value in runner.run(_nudged(images)).items()})
    plain, fused, nudged = answers
    return {
        name: min(compare(plain[name], fused[name]).sqnr_db, compare(fused[name], nudged[name]).sqnr_db)
        for name in plain
    }


def _nudged(images: Batch) -> dict[str, np.ndarray]:
    """Return inputs that differ in the last bit of their largest value, up or down by chance; integers as they are."""
    rng = np.random.default_rng(0)
    nudged = {}
    for name, array in images.items():
        values = np.asarray(array)
        if np.issubdtype(values.dtype, np.floating):
            step = np.abs(values).max(initial=0.0) * np.finfo(values.dtype).eps
            values = (values + step * rng.choice([-1.0, 1.0], values.shape)).astype(values.dtype)
        nudged[name] = values
    return nudged
