"""How quiet the machine is, and what it is good at."""

from __future__ import annotations

import os

from linglos_deploy.backends.cpu import this_cpu
from linglos_deploy.reports.profile import Conditions

BUSY_LOAD_PER_CPU = 0.3


def this_machines_conditions() -> Conditions:
    """Look at this machine as it is now."""
    import psutil

    return Conditions(
        instructions=this_cpu().instructions,
        physical_cores=psutil.cpu_count(logical=False) or 0,
        load_before=round(os.getloadavg()[0], 2),
    )


def warn_if_busy(conditions: Conditions, *, cpus: int) -> tuple[str, ...]:
    """Return a warning if other work was going on when the measurement began."""
    if conditions.load_before <= BUSY_LOAD_PER_CPU * cpus:
        return ()
    return (
        f"The machine was busy: load average {conditions.load_before:.2f} on {cpus} CPUs before the first round. "
        "Trust ratios more than times, and measure again when it is quiet.",
    )
