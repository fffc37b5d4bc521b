"""Look at this machine: its parts, what each backend can do here, and whether given engines will load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from linglos_deploy.backends import registry
from linglos_deploy.backends.base import Probe
from linglos_deploy.backends.machine import describe_machine
from linglos_deploy.engines.compiler import Host
from linglos_deploy.engines.preflight import check_engine
from linglos_deploy.reports.doctor import DoctorReport

SCHEMA = "linglos.doctor/1"


def examine(engines: Sequence[Path] = (), *, device: int = 0) -> DoctorReport:
    """Describe this machine and compare engines with it.

    Args:
        engines: Plans of a bundle, or single ones.
        device: Number of the GPU that they would run on.
    """
    machine = describe_machine()
    host = Host(machine=machine, device=device)
    return DoctorReport(
        schema=SCHEMA,
        machine=machine,
        backends=tuple(_probe(name) for name in registry.available()),
        engines=tuple(check_engine(plan, host) for plan in engines),
    )


def _probe(name: str) -> Probe:
    """One broken installation must not hide what the others can do."""
    try:
        return registry.probe(name)
    except Exception as error:
        detail = f"cannot be examined: {type(error).__name__}: {error}"
        return Probe(name, installed=False, version=None, runs=False, compiles=False, detail=detail)
