"""How quiet and how fast the machine is: what ``/sys``, ``/proc`` and the control group say, and what to change."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from linglos_deploy.backends.cpu import this_cpu
from linglos_deploy.reports.profile import Conditions

BUSY_LOAD_PER_CPU = 0.3
BUSY_SHARE = 0.2
"""Part of all CPUs that others may keep busy without a word."""

_LOOK_SECONDS = 0.25
_ROOT = Path("/")
_CPUS = "sys/devices/system/cpu"
_CGROUP = "sys/fs/cgroup"
_POWER_MODE = "var/lib/nvpmodel/status"


def this_machines_conditions(root: Path = _ROOT) -> Conditions:
    """Look at this machine as it is now.

    Args:
        root: Where ``/sys`` and the like lie; tests put others here.
    """
    import psutil

    quota = quota_cpus(root)
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = psutil.cpu_count(logical=False) or 0
    return Conditions(
        instructions=this_cpu().instructions,
        physical_cores=cores,
        load_before=round(os.getloadavg()[0], 2),
        usable_cpus=float(affinity if quota is None else min(affinity, quota)),
        quota_cpus=quota,
        busy_before=round(psutil.cpu_percent(_LOOK_SECONDS) / 100, 2),
        governor=", ".join(sorted({_read(path) for path in (root / _CPUS).glob("cpu*/cpufreq/scaling_governor")})),
        boost=_boost(root),
        smt={"1": True, "0": False}.get(_read(root / _CPUS / "smt/active")),
        numa_nodes=len(list((root / "sys/devices/system/node").glob("node[0-9]*"))),
        power_mode=_read(root / _POWER_MODE),
    )


def quota_cpus(root: Path = _ROOT) -> float | None:
    """Return how many CPUs the control group may use; ``None`` without a limit.

    Version 2 says so in ``cpu.max`` (quota and period in microseconds, Linux' admin-guide/cgroup-v2), version 1 in
    ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us``.
    """
    limits = [_read(folder / "cpu.max").split() for folder in _own_groups(root)]
    limits += [[_read(root / _CGROUP / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period")]]
    quotas = [
        int(limit[0]) / int(limit[1])
        for limit in limits
        if len(limit) == 2 and limit[0].isdecimal() and limit[1].isdecimal() and int(limit[1])
    ]
    return round(min(quotas), 2) if quotas else None


@dataclass(frozen=True, slots=True)
class Throttles:
    """Counters that only rise; ``None`` where nobody counts."""

    thermal: int | None
    quota: int | None


def count_throttles(root: Path = _ROOT) -> Throttles:
    """Read how often a CPU was slowed down for its heat, and the control group stopped for its quota."""
    heat = [_read(path) for path in (root / _CPUS).glob("cpu*/thermal_throttle/*_throttle_count")]
    stat = _read(root / _CGROUP / "cpu.stat") or _read(root / _CGROUP / "cpu/cpu.stat")
    found = re.search(r"^nr_throttled (\d+)$", stat, re.MULTILINE)
    return Throttles(
        thermal=sum(int(text) for text in heat if text.isdecimal()) if heat else None,
        quota=int(found.group(1)) if found else None,
    )


def with_throttles(conditions: Conditions, before: Throttles, after: Throttles) -> Conditions:
    """Add what happened between two readings."""

    def risen(old: int | None, new: int | None) -> int | None:
        return None if old is None or new is None else new - old

    return replace(
        conditions,
        thermal_throttles=risen(before.thermal, after.thermal),
        quota_throttles=risen(before.quota, after.quota),
    )


def warnings_about(conditions: Conditions, *, threads: Sequence[int]) -> tuple[str, ...]:
    """Say what about the machine makes the numbers doubtful, and what to change."""
    found = []
    cpus = conditions.usable_cpus or 1.0
    if conditions.load_before > BUSY_LOAD_PER_CPU * cpus or (conditions.busy_before or 0.0) > BUSY_SHARE:
        found.append(
            f"The machine was busy: load average {conditions.load_before:.2f} on {cpus:g} CPUs"
            + (f", {conditions.busy_before:.0%} of all CPUs at work" if conditions.busy_before is not None else "")
            + " before the first round. Trust ratios more than times, and measure again when it is quiet."
        )
    if max(threads) > cpus:
        why = f"a quota of {conditions.quota_cpus:g} CPUs" if conditions.quota_cpus else f"{cpus:g} usable CPUs"
        found.append(
            f"There are {max(threads)} threads but {why}: threads wait for each other. "
            f"Use --threads {max(1, int(cpus))}, or give the container more CPUs."
        )
    if 0 in threads:
        seen = (
            f", and they count cores where the quota is {conditions.quota_cpus:g} CPUs" if conditions.quota_cpus else ""
        )
        found.append(
            f"Each backend chose its own number of threads{seen}. Compare candidates with the same: --threads 1."
        )
    if conditions.governor and conditions.governor != "performance":
        found.append(
            f"The clock follows the load (governor {conditions.governor}). For steadier times: "
            "sudo cpupower frequency-set -g performance."
        )
    if conditions.thermal_throttles:
        found.append(
            f"The CPU was slowed down for its heat {conditions.thermal_throttles} times meanwhile: "
            "let it cool down, or improve the cooling; later rounds are slower than earlier ones."
        )
    if conditions.quota_throttles:
        found.append(
            f"The container's CPU quota stopped the work {conditions.quota_throttles} times meanwhile: "
            "fewer threads, or a larger quota."
        )
    return tuple(found)


def _own_groups(root: Path) -> list[Path]:
    """Return the folders of this process's control group and of those around it, where there is version 2."""
    own = re.search(r"^0::/(.*)$", _read(root / "proc/self/cgroup"), re.MULTILINE)
    top = root / _CGROUP
    inner = top / own.group(1) if own else top
    return [folder for folder in (inner, *inner.parents) if folder.is_relative_to(top)]


def _boost(root: Path) -> bool | None:
    turbo_off = _read(root / _CPUS / "intel_pstate/no_turbo")
    if turbo_off:
        return turbo_off == "0"
    return {"1": True, "0": False}.get(_read(root / _CPUS / "cpufreq/boost"))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
