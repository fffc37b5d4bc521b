"""Runs graphs as an engine was made of its graph: compiled again by the same compiler, with the same settings."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from linglos_deploy.artifacts import Artifact, EngineArtifact, OnnxArtifact
from linglos_deploy.backends.base import CPU, Device, Runner, Runtime
from linglos_deploy.engines.record import read_record
from linglos_deploy.engines.registry import compiler
from linglos_deploy.errors import ArtifactError
from linglos_deploy.profiling.access import EngineAccess


@dataclass(slots=True)
class Recompiled:
    """A runtime for graphs that computes as an engine does.

    Attributes:
        engine: Whose compiler and settings are taken.
        runtime: Runs engines of its kind.
        access: How they are opened.
        name: The compiler's name.
    """

    engine: EngineArtifact
    runtime: Runtime
    access: EngineAccess = field(default_factory=EngineAccess)
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.engine.backend

    @contextmanager
    def open(self, artifact: Artifact, *, device: Device = CPU) -> Iterator[Runner]:
        """Compile a graph and open the engine where ``access`` says.

        Raises:
            ArtifactError: It is no graph.
            BuildError: It cannot be compiled.
        """
        if not isinstance(artifact, OnnxArtifact):
            raise ArtifactError("Only a graph can be compiled.", found=type(artifact).__name__, expected="a graph")
        spec = read_record(self.engine.path).spec
        with tempfile.TemporaryDirectory(prefix="linglos-recompiled-") as folder:
            again = compiler(self.engine.backend).compile(artifact, spec, out=Path(folder) / self.engine.path.name)
            with self.runtime.open(again, **self.access.where()) as runner:
                yield runner
