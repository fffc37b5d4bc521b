"""What ``doctor`` says: this machine, what each backend can do on it, and whether a bundle's engines will load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU.

    Attributes:
        index: Its number, as in ``cuda:0``.
        name: Its model.
        compute_capability: Such as ``8.9``.
        memory_bytes: All of its memory.
        free_bytes: What of it was free when asked; ``None`` if unknown.
    """

    index: int
    name: str
    compute_capability: str
    memory_bytes: int
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that this process runs on.

    Attributes:
        system: Operating system and release.
        platform: Operating system and processor, such as ``linux-x86_64``.
        python: Python's version.
        cpu: The processor's name.
        cpu_count: Logical processors that this process may use.
        memory_bytes: Main memory, ``None`` if unknown.
        gpus: GPUs that CUDA shows to this process.
        driver: NVIDIA driver version, ``None`` without one.
        cuda: Latest CUDA version that the driver supports, ``None`` without one.
        gpu_detail: Why there is no GPU, or where the facts came from.
        jetson: L4T release of a Jetson, ``None`` elsewhere.
    """

    system: str
    platform: str
    python: str
    cpu: str
    cpu_count: int
    memory_bytes: int | None
    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    cuda: str | None = None
    gpu_detail: str = ""
    jetson: str | None = None


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
        runs_graphs: Whether it is one that runs ONNX graphs as they are.
    """

    name: str
    installed: bool
    version: str | None
    runs: bool
    compiles: bool
    detail: str
    how_to_get: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    runs_graphs: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """What one backend could do with a graph on this machine.

    Attributes:
        backend: Which one.
        possible: Whether it could, here and now.
        detail: Why not, or what it needs.
        command: What does it, or what makes it possible.
    """

    backend: str
    possible: bool
    detail: str
    command: str


@dataclass(frozen=True, slots=True)
class GraphUse:
    """What this machine could do with an ONNX graph.

    Attributes:
        graph: Its path.
        runs: Backends that run it as it is.
        builds: Compilers that make an engine of it.
    """

    graph: str
    runs: tuple[Offer, ...]
    builds: tuple[Offer, ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition under which an engine loads.

    Attributes:
        name: What is compared, such as ``compute capability``.
        passed: Whether it holds; ``None`` if that cannot be told here.
        found: What is here.
        expected: What the engine needs.
        reason: Why this matters, when it does not hold.
    """

    name: str
    passed: bool | None
    found: str
    expected: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EngineCheck:
    """Whether one engine can be loaded on this machine.

    Attributes:
        engine: Path of the plan.
        backend: Which backend it is for.
        conditions: All that was compared, before anything was deserialized.
        rebuild: The command that builds it again for this machine.
    """

    engine: str
    backend: str
    conditions: tuple[Condition, ...]
    rebuild: str

    @property
    def passed(self) -> bool:
        """Whether every condition holds."""
        return all(condition.passed is True for condition in self.conditions)

    @property
    def refused(self) -> bool:
        """Whether a condition fails, so that loading must not even be tried."""
        return any(condition.passed is False for condition in self.conditions)


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """Everything ``doctor`` found.

    Attributes:
        schema: ``linglos.doctor/1``.
        machine: This machine.
        backends: Every known backend.
        engines: Checks of a bundle's engines, if one was given.
        graphs: What could be done here with each of its graphs.
    """

    schema: str
    machine: Machine
    backends: tuple[Probe, ...]
    engines: tuple[EngineCheck, ...] = ()
    graphs: tuple[GraphUse, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every engine that was checked can be loaded here."""
        return all(check.passed for check in self.engines)
