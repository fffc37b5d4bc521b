"""ONNX Runtime, slower by a given share: each run is followed by a wait of that part of its own time.

As a program this is a worker of ``linglos_deploy.profiling`` that knows this backend.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from linglos_deploy.artifacts import Artifact
from linglos_deploy.backends import registry
from linglos_deploy.backends.base import CPU, Device, Runner
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.signature import Batch, ModelSignature

registry.BUILTIN["slowed"] = "slowed:Slowed"


class Slowed:
    """ONNX Runtime with a planted difference."""

    def __init__(self, *, threads: int = 1, share: float = 0.0) -> None:
        self.name = "slowed"
        self.threads = threads
        self.share = share

    @contextmanager
    def open(self, artifact: Artifact, *, device: Device = CPU) -> Iterator[SlowedRunner]:
        """Open a graph with ONNX Runtime."""
        with OnnxRuntime(threads=self.threads).open(artifact, device=device) as runner:
            yield SlowedRunner(runner, self.share)


class SlowedRunner:
    """A runner that waits, awake, after each run."""

    def __init__(self, runner: Runner, share: float) -> None:
        self.runner = runner
        self.share = share

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs."""
        return self.runner.signature

    def run(self, batch: Batch) -> Batch:
        """Run a batch, and wait."""
        started = time.perf_counter()
        outputs = self.runner.run(batch)
        end = started + (1 + self.share) * (time.perf_counter() - started)
        while time.perf_counter() < end:
            pass
        return outputs


if __name__ == "__main__":
    from linglos_deploy.profiling.worker import main

    main()
