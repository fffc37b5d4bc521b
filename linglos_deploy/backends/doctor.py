"""Look at this machine: its parts, what each backend can do here, and what becomes of given engines and graphs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from linglos_deploy.backends import registry
from linglos_deploy.backends.base import Probe
from linglos_deploy.backends.machine import describe_machine
from linglos_deploy.engines import registry as compilers
from linglos_deploy.engines.compiler import Host
from linglos_deploy.engines.preflight import check_engine
from linglos_deploy.reports.doctor import DoctorReport, GraphUse, Offer

SCHEMA = "linglos.doctor/1"


def examine(engines: Sequence[Path] = (), *, graphs: Sequence[Path] = (), device: int = 0) -> DoctorReport:
    """Describe this machine, compare engines with it, and say what it could do with graphs.

    Args:
        engines: Plans of a bundle, or single ones.
        graphs: ONNX files of a bundle, or single ones.
        device: Number of the GPU that the engines would run on.
    """
    machine = describe_machine()
    host = Host(machine=machine, device=device)
    probes = tuple(_probe(name) for name in registry.available())
    return DoctorReport(
        schema=SCHEMA,
        machine=machine,
        backends=probes,
        engines=tuple(check_engine(plan, host) for plan in engines),
        graphs=tuple(_use(graph, probes) for graph in graphs),
    )


def _probe(name: str) -> Probe:
    """One broken installation must not hide what the others can do."""
    try:
        return registry.probe(name)
    except Exception as error:
        detail = f"cannot be examined: {type(error).__name__}: {error}"
        return Probe(name, installed=False, version=None, runs=False, compiles=False, detail=detail)


def _use(graph: Path, probes: Sequence[Probe]) -> GraphUse:
    known = compilers.available()
    profile = ["linglos-deploy", "profile", str(graph), "--backend"]
    build = ["linglos-deploy", "build", str(graph), "--output", "engines", "--engine"]
    return GraphUse(
        graph=str(graph),
        runs=tuple(_offer(probe, probe.runs, [*profile, probe.name]) for probe in probes if probe.runs_graphs),
        builds=tuple(_offer(probe, probe.compiles, [*build, probe.name]) for probe in probes if probe.name in known),
    )


def _offer(probe: Probe, possible: bool, command: list[str]) -> Offer:
    return Offer(probe.name, possible, probe.detail, shlex.join(command) if possible else probe.how_to_get)
