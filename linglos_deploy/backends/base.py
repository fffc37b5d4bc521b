"""What a backend can do is which of these protocols it satisfies: run an artifact, compile a graph, or both."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from linglos_deploy.artifacts import Artifact, EngineArtifact, OnnxArtifact
from linglos_deploy.choices import HardwareCompatibility as HardwareCompatibility
from linglos_deploy.errors import UsageError
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.reports.profile import OperatorTime
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
        if kind in {"cuda", "gpu"} and (index.isdecimal() or not index):
            return cls("cuda", int(index or 0))
        raise UsageError(f"'{text}' is not a device.", expected="cpu, cuda, cuda:N or N", next_step="--device cpu")

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


CPU = Device()
_COMPUTE_CAPABILITY = re.compile(r"[1-9]\d?\.\d")


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
class OperatorTimer(Protocol):
    """A runtime that can say where the time of a run goes."""

    def operator_times(self, artifact: Artifact, batch: Batch, *, runs: int) -> tuple[OperatorTime, ...]:
        """Run a batch ``runs`` times with the backend's own profiler on the CPU; return mean times, largest first."""
        ...


@dataclass(frozen=True, slots=True)
class ShapeRange:
    """The sizes that one optimization profile serves: any shape between ``min`` and ``max``, tuned for ``opt``."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("min", "opt", "max"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not all(a <= b <= c for a, b, c in zip(self.min, self.opt, self.max, strict=True)):
            raise UsageError("A profile needs min <= opt <= max.", found=f"{self.min}, {self.opt}, {self.max}")


@dataclass(frozen=True, slots=True)
class BuildSpec:
    """How an engine is compiled. Precision lives in the graph: nothing here changes it, apart from ``tf32``.

    Attributes:
        profiles: One or more optimization profiles; each maps every input name to its shapes.
        workspace_bytes: Limit of the scratch memory, ``None`` for the backend's default.
        optimization_level: 0 to 5, ``None`` for the backend's default.
        compute_capabilities: Targets of an ahead-of-time build such as ``("8.6", "8.9")``; empty for the default.
        hardware_compatibility: Where an engine that is built for the GPU at hand may run besides.
        version_compatible: Whether later releases of the backend may load the engine. It then carries host code,
            which runs with the rights of the process that loads it.
        refittable: Whether weights can be replaced in the built engine.
        strip_weights: Whether weights are left out of the plan, to be filled in from the graph before the first run.
        weight_streaming: Whether weights may stay in host memory and be streamed to the device.
        tf32: Whether float32 products may be rounded to TF32. Off by default: a float32 graph gives float32.
        allow_fallback: Whether an engine whose layers do not run in the precisions of the graph is accepted.
    """

    profiles: tuple[Mapping[str, ShapeRange], ...]
    workspace_bytes: int | None = None
    optimization_level: int | None = None
    compute_capabilities: tuple[str, ...] = ()
    hardware_compatibility: HardwareCompatibility = HardwareCompatibility.NONE
    version_compatible: bool = False
    refittable: bool = False
    strip_weights: bool = False
    weight_streaming: bool = False
    tf32: bool = False
    allow_fallback: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "profiles", tuple(self.profiles))
        object.__setattr__(self, "compute_capabilities", tuple(self.compute_capabilities))
        for capability in self.compute_capabilities:
            if not _COMPUTE_CAPABILITY.fullmatch(capability):
                raise UsageError(
                    f"'{capability}' is not a compute capability.", expected="one such as 8.9", next_step="--sm 89"
                )
        if self.optimization_level is not None and self.optimization_level not in range(6):
            raise UsageError(
                "The optimization level is out of range.", found=str(self.optimization_level), expected="0 to 5"
            )
        if self.workspace_bytes is not None and self.workspace_bytes <= 0:
            raise UsageError("The workspace must be positive.", found=f"{self.workspace_bytes} bytes")


@runtime_checkable
class Compiler(Protocol):
    """Can compile a graph into an engine."""

    name: str

    def compile(
        self, model: OnnxArtifact, spec: BuildSpec, *, out: Path, progress: Progress = SILENT
    ) -> EngineArtifact:
        """Compile ``model`` and write the plan to ``out``, with its ``.json`` sidecar.

        Raises:
            MissingDependencyError: The backend or a device it needs for building is missing.
            BuildError: The graph cannot be compiled; the message names the node.
        """
        ...


@dataclass(frozen=True, slots=True)
class Probe:
    """What ``doctor`` says about a backend on this machine.

    Attributes:
        name: The backend.
        installed: Whether its package can be imported.
        version: Version of the package, if installed.
        runs: Whether it can run a model here, now.
        compiles: Whether it can compile an engine here, now.
        detail: One sentence: what it offers here, or why it does not.
        how_to_get: The command that would make it available, empty if nothing is missing.
        facts: Further facts as JSON values, such as execution providers or supported compute capabilities.
    """

    name: str
    installed: bool
    version: str | None
    runs: bool
    compiles: bool
    detail: str
    how_to_get: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Probeable(Protocol):
    """Can say what it offers on this machine, without heavy imports and without raising."""

    def probe(self) -> Probe:
        """Look at this machine."""
        ...
