"""How an engine is compiled: which shapes it serves, and every choice that is not in the graph."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from linglos_deploy.choices import HardwareCompatibility
from linglos_deploy.errors import UsageError

_COMPUTE_CAPABILITY = re.compile(r"[1-9]\d?\.\d")


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
