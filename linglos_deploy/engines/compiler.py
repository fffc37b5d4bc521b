"""What a compiler of engines is, and what it may say about an engine before anybody loads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from linglos_deploy.artifacts import EngineArtifact, OnnxArtifact
from linglos_deploy.engines.record import EngineRecord
from linglos_deploy.engines.spec import BuildSpec
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.reports.doctor import Condition, Gpu, Machine, Probe


@runtime_checkable
class Compiler(Protocol):
    """Can compile a graph into an engine."""

    name: str

    def compile(
        self, model: OnnxArtifact, spec: BuildSpec, *, out: Path, progress: Progress = SILENT
    ) -> EngineArtifact:
        """Compile ``model`` and write the plan to ``out``, with its ``.json`` sidecar.

        Raises:
            UsageError: ``spec`` asks for something that this compiler does not have.
            MissingDependencyError: The backend or a device it needs for building is missing.
            BuildError: The graph cannot be compiled; the message names the node.
        """
        ...


@runtime_checkable
class Probeable(Protocol):
    """Can say what it offers on this machine, without heavy imports and without raising."""

    def probe(self) -> Probe:
        """Look at this machine."""
        ...


@dataclass(frozen=True, slots=True)
class Host:
    """What an engine would meet here.

    Attributes:
        machine: This machine.
        device: Number of the GPU it would run on.
        versions: Installed version per backend, ``None`` where it is missing; left out, each backend looks for itself.
        backend: The backend that is about to load the engine; ``None`` to take the engine's own.
        allow_host_code: Whether an engine with host code may be loaded.
    """

    machine: Machine
    device: int = 0
    versions: Mapping[str, str | None] | None = None
    backend: str | None = None
    allow_host_code: bool = False

    @property
    def gpu(self) -> Gpu | None:
        """The GPU that the engine would run on."""
        return next((gpu for gpu in self.machine.gpus if gpu.index == self.device), None)


@runtime_checkable
class Preflighted(Protocol):
    """A compiler that can say, without loading it, whether one of its engines would load on a machine."""

    def conditions(self, plan: Path, record: EngineRecord, host: Host) -> tuple[Condition, ...]:
        """Compare an engine with a machine, beyond the plan's size and digest, which are always compared.

        Args:
            plan: The plan; it exists.
            record: Its sidecar.
            host: The machine.
        """
        ...


def condition(name: str, passed: bool | None, found: str, expected: str, reason: str = "") -> Condition:
    """Return a condition; a reason is for what does not hold."""
    return Condition(name, passed, found, expected, "" if passed else reason)
