"""What this machine's CPU can do, as far as the answers of a model depend on it."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from linglos_deploy.compat import StrEnum

_INTERESTING = (
    "avx2",
    "avx512f",
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
)
_DOT_PRODUCTS = frozenset({"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"})


class Int8Mode(StrEnum):
    """What a CPU backend does with INT8 where the fast kernels may overflow silently."""

    EXACT = "exact"
    """Sums of products never saturate: the answer of the graph, perhaps slower."""
    SAFE = "safe"
    """The kernels of this CPU that never saturate: fast ones where it has integer dot products. What a bundle's graph
    for ONNX Runtime ships with."""
    FAST = "fast"
    """The fastest kernels of this CPU, whatever they do to the answer."""


@dataclass(frozen=True, slots=True)
class CpuFeatures:
    """A CPU and the instruction sets that decide how fast, and how exactly, it multiplies INT8.

    Attributes:
        model: Its name, such as ``"Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz"``.
        architecture: ``"x86_64"`` or ``"aarch64"``.
        instructions: The kernel's names of the instruction sets that matter here, sorted, such as ``"avx512_vnni"``.
        cores: Logical cores that this process may use, 0 if unknown.
    """

    model: str
    architecture: str
    instructions: tuple[str, ...]
    cores: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "instructions", tuple(self.instructions))

    @property
    def int8_dot_products(self) -> tuple[str, ...]:
        """Instructions that add INT8 products up in 32 bits: VNNI, AMX, and Arm's dot products."""
        return tuple(name for name in self.instructions if name in _DOT_PRODUCTS)

    @property
    def int8_saturates(self) -> bool:
        """Whether the usual INT8 kernels overflow silently on this CPU.

        Without VNNI or AMX, x86 kernels multiply with VPMADDUBSW, whose 16-bit sums of two products saturate
        (Intel 64 and IA-32 Software Developer's Manual, volume 2, PMADDUBSW). Arm's kernels widen instead.
        """
        return self.architecture in {"x86_64", "AMD64", "i686"} and not self.int8_dot_products


@cache
def this_cpu() -> CpuFeatures:
    """Return the features of the CPU that this process runs on (Linux; elsewhere without instruction sets)."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return parse_cpuinfo(text, architecture=platform.machine(), cores=_usable_cores())


def physical_cores() -> int:
    """Return the physical cores that this process may use, 1 if unknown."""
    import psutil

    return max(1, min(psutil.cpu_count(logical=False) or 1, _usable_cores()))


def parse_cpuinfo(text: str, *, architecture: str, cores: int = 0) -> CpuFeatures:
    """Read ``/proc/cpuinfo`` as the x86 and the Arm kernels write it."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return CpuFeatures(
        model=fields.get("model name") or fields.get("Model") or platform.processor() or architecture,
        architecture=architecture,
        instructions=tuple(sorted(flags & set(_INTERESTING))),
        cores=cores,
    )


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # a container or taskset may allow fewer than the machine has
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 0
