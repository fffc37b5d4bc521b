"""What a backend can do is which protocols it satisfies: those here, and that of a compiler in ``engines``."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from linglos_deploy.artifacts import Artifact, OnnxArtifact
from linglos_deploy.engines.compiler import Probeable as Probeable
from linglos_deploy.engines.record import PrecisionProof
from linglos_deploy.errors import UsageError
from linglos_deploy.reports.doctor import Probe as Probe
from linglos_deploy.reports.profile import LayerProfile
from linglos_deploy.signature import Batch, ModelSignature


@dataclass(frozen=True, slots=True)
class Device:
    """Where a model runs: ``cpu`` or ``cuda:N``."""

    kind: str = "cpu"
    index: int = 0

    @classmethod
    def parse(cls, text: str) -> Device:
        """Parse ``cpu``, ``cuda``, ``cuda:1`` or a bare GPU number such as ``0``.

        Raises:
            UsageError: ``text`` is none of these.
        """
        kind, _, index = text.strip().lower().partition(":")
        if kind.isdecimal() and not index:
            kind, index = "cuda", kind
        if kind == "cpu" and not index:
            return cls()
        if kind == "cuda" and (index.isdecimal() or not index):
            return cls("cuda", int(index or 0))
        raise UsageError(
            f"'{text}' is not a device.",
            found=text,
            expected="cpu, cuda, cuda:N or N",
            next_step="--device cuda:0" if kind == "gpu" else "--device cpu",
        )

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


CPU = Device()


@runtime_checkable
class Runner(Protocol):
    """An opened model."""

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs."""
        ...

    def run(self, batch: Batch) -> Batch:
        """Run one batch.

        Args:
            batch: One array per input, as the signature says.

        Returns:
            One array per output. They stay valid until the next call of ``run``; copy what must live longer.

        Raises:
            DataError: The batch does not fit the signature.
            RunError: The backend failed.
        """
        ...


@runtime_checkable
class Runtime(Protocol):
    """Can run artifacts."""

    name: str

    def open(self, artifact: Artifact, *, device: Device = CPU) -> AbstractContextManager[Runner]:
        """Open an artifact for running; leaving the context frees everything it holds.

        Raises:
            ArtifactError: The artifact is damaged or not of a kind that this backend runs.
            MissingDependencyError: The device or the backend's package is missing.
        """
        ...


@runtime_checkable
class SharedRuntime(Runtime, Protocol):
    """A runtime whose runners may be used by several threads at once."""

    @property
    def cores(self) -> int:
        """Threads that it uses for one run."""
        ...

    def shared_by(self, users: int) -> Runtime:
        """Return this runtime with its threads dealt out to so many concurrent users of one runner.

        What a run returns then stays valid until the same thread runs again.
        """
        ...


@runtime_checkable
class Noted(Protocol):
    """A runner that has something to say about its answers."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that a user of the answers should not miss, such as what happens to INT8 on this CPU."""
        ...


@runtime_checkable
class Explaining(Protocol):
    """A runtime that can say in which precision it runs each layer of a graph."""

    def explain(self, artifact: OnnxArtifact) -> PrecisionProof:
        """Load an INT8 graph as it would be run; return what became of its layers.

        Raises:
            ArtifactError: The graph is damaged or not of a kind that this backend runs.
        """
        ...


@runtime_checkable
class LayerTimer(Protocol):
    """A runtime that can say where the time of a run goes."""

    def layer_times(self, artifact: Artifact, batch: Batch, *, runs: int) -> LayerProfile | None:
        """Run a batch ``runs`` times with the backend's own profiler on the CPU; ``None`` for what it does not run."""
        ...
