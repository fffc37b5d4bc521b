"""A backend that misbehaves on request, and a worker that knows it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from linglos_deploy.artifacts import Artifact
from linglos_deploy.backends.base import CPU, Device
from linglos_deploy.errors import MissingDependencyError
from linglos_deploy.signature import ModelSignature

FACTORY = "tests.profiling.fakes:Fake"
WORKER = (
    sys.executable,
    "-c",
    f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
    "from linglos_deploy.backends import registry\n"
    f"registry.BUILTIN['fake'] = {FACTORY!r}\n"
    "from linglos_deploy.profiling.worker import main\n"
    "main()",
)


class Fake:
    """Runs everything in no time, unless ``behaviour`` says otherwise."""

    def __init__(self, *, threads: int = 0, behaviour: str = "", pause: float = 0.0) -> None:
        self.name = "fake"
        self.threads = threads
        self.behaviour = behaviour
        self.pause = pause

    @contextmanager
    def open(self, artifact: Artifact, *, device: Device = CPU) -> Iterator[FakeRunner]:
        if self.behaviour == "missing":
            raise MissingDependencyError("There is no such device here.")
        if self.behaviour == "chatty":
            os.write(1, b"a library greets the terminal\n")
        assert not hasattr(artifact, "module")
        yield FakeRunner(artifact.signature, self)  # type: ignore[union-attr]


class FakeRunner:
    notes = ("a fake",)

    def __init__(self, signature: ModelSignature, backend: Fake) -> None:
        self.signature = signature
        self.backend = backend
        self.runs = 0

    def run(self, batch: Any) -> dict[str, Any]:
        self.runs += 1
        time.sleep(self.backend.pause)
        match self.backend.behaviour:
            case "raise":
                raise ValueError("the layer exploded")
            case "crash" if self.runs > 3:
                sys.stderr.write("segmentation fault, more or less\n")
                sys.stderr.flush()
                os._exit(11)
            case "hang" if self.runs > 3:
                time.sleep(60)
        return {}
