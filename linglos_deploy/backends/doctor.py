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
from linglos_deploy.engines.profiles import shapes_to_give, sizes_to_give
from linglos_deploy.engines.sizes import around
from linglos_deploy.errors import DataError
from linglos_deploy.reports.doctor import DoctorReport, GraphUse, Offer
from linglos_deploy.signature import ModelSignature

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
    to_run, to_build = _shapes_to_give(graph)
    profile = ["linglos-deploy", "profile", str(graph), *to_run, "--backend"]
    build = ["linglos-deploy", "build", str(graph), *to_build, "--output", "engines", "--engine"]
    return GraphUse(
        graph=str(graph),
        runs=tuple(_offer(probe, probe.runs, [*profile, probe.name]) for probe in probes if probe.runs_graphs),
        builds=tuple(_offer(probe, probe.compiles, [*build, probe.name]) for probe in probes if probe.name in known),
    )


def _shapes_to_give(graph: Path) -> tuple[list[str], list[str]]:
    """Return the options that running and building need, with ``SIZE`` for numbers that only the user knows."""
    # They import onnx, which a look at the machine need not.
    from linglos_deploy.artifacts import open_onnx
    from linglos_deploy.graph.feeds import Sizes, input_shapes
    from linglos_deploy.graph.metadata import stated_preprocessing

    signature, spec = open_onnx(graph).signature, stated_preprocessing(graph)
    size = None if spec is None else spec.input_size
    to_run = []
    for tensor in signature.inputs:
        try:
            input_shapes(ModelSignature((tensor,), ()), Sizes(image_size=size))
        except DataError:
            to_run.append(f"{tensor.name}={sizes_to_give(tensor)}")
    to_build = shapes_to_give(signature, usual_sizes=None if size is None else around(size, 1))
    return _options(to_run), _options(to_build)


def _options(shapes: Sequence[str]) -> list[str]:
    return [part for shape in shapes for part in ("--shape", shape)]


def _offer(probe: Probe, possible: bool, command: list[str]) -> Offer:
    return Offer(probe.name, possible, probe.detail, shlex.join(command) if possible else probe.how_to_get)
