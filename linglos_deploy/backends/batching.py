"""Graphs of a fixed batch size, fed with any number of images: split, padded and trimmed.

Only checks use this. A profile measures the batch that the graph has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from linglos_deploy.artifacts import Artifact
from linglos_deploy.backends.base import CPU, Device, Runner, Runtime
from linglos_deploy.signature import Batch, ModelSignature


class AnyBatch:
    """A runtime whose runners take any number of images, whatever batch size the graph was exported with.

    Args:
        runtime: What really runs.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.name = runtime.name
        self.runtime = runtime

    @contextmanager
    def open(self, artifact: Artifact, *, device: Device = CPU) -> Iterator[Runner]:
        """Open an artifact; see :class:`~linglos_deploy.backends.base.Runtime`."""
        with self.runtime.open(artifact, device=device) as runner:
            size = runner.signature.inputs[0].dims[0]
            yield _InPieces(runner, size) if isinstance(size, int) else runner


@dataclass(frozen=True, slots=True)
class _InPieces:
    """Runs ``size`` images at a time; what is missing from the last piece repeats its last image."""

    runner: Runner
    size: int

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs of the graph."""
        return self.runner.signature

    def run(self, batch: Batch) -> Batch:
        """Run a batch of any size; see :class:`~linglos_deploy.backends.base.Runner`."""
        count = min(len(array) for array in batch.values())
        pieces = [self._run_piece(batch, start, min(self.size, count - start)) for start in range(0, count, self.size)]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in self.signature.output_names}

    def _run_piece(self, batch: Batch, start: int, count: int) -> dict[str, np.ndarray]:
        rows = np.minimum(np.arange(self.size), count - 1) + start
        outputs = self.runner.run({name: array[rows] for name, array in batch.items()})
        return {name: outputs[name][:count].copy() for name in self.signature.output_names}
