"""Which engines a graph gets: what was asked for, what this machine can compile, and what came of it."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from linglos_deploy.artifacts import EngineArtifact, OnnxArtifact
from linglos_deploy.engines import registry
from linglos_deploy.engines.compiler import Compiler
from linglos_deploy.engines.containers import check_containers, find_containers
from linglos_deploy.engines.containers.base import Container
from linglos_deploy.engines.options import EngineOptions
from linglos_deploy.engines.record import read_record
from linglos_deploy.engines.spec import BuildSpec
from linglos_deploy.engines.targets import find_preset
from linglos_deploy.errors import BuildError, LinglosError, MissingDependencyError
from linglos_deploy.files import atomic_directory
from linglos_deploy.graph.metadata import read_metadata, read_preprocessing
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.reports.doctor import Probe
from linglos_deploy.reports.export import EngineOutcome

AUTO = "auto"
"""Asks for an engine of every compiler of :data:`registry.AUTO` that works here."""

NONE = "none"
"""Asks for no engine."""


def choose_compilers(choice: str, engine_options: EngineOptions) -> tuple[dict[str, Compiler], tuple[Probe, ...]]:
    """Decide which compilers to use, before any work is spent. With a target, ``AUTO`` takes those that support it.

    Returns:
        The compilers by name, and the probes of those that ``AUTO`` had to pass over.

    Raises:
        UsageError: ``choice`` is no compiler's name, and neither ``auto`` nor ``none``; or a container fits no engine.
        MissingDependencyError: The compiler that was asked for by name cannot be used here.
    """
    registry.check_choice(choice)
    compilers, passed_over = _choose(choice, engine_options)
    if compilers or choice == NONE:
        check_containers(find_containers(engine_options.containers), compilers)
    return compilers, passed_over


def _choose(choice: str, engine_options: EngineOptions) -> tuple[dict[str, Compiler], tuple[Probe, ...]]:
    if choice == NONE:
        return {}, ()
    if choice == AUTO:
        names = registry.AUTO
        if engine_options.target is not None:
            names = find_preset(engine_options.target).backends
        probes = [registry.probe(name) for name in names]
        usable = {probe.name: _compiler(probe.name, engine_options) for probe in probes if probe.compiles}
        return usable, tuple(probe for probe in probes if not probe.compiles)
    probe = registry.probe(choice)
    if not probe.compiles:
        raise MissingDependencyError(
            f"No {choice} engine can be built here.",
            found=probe.detail,
            expected="its package, and a GPU where the builder needs one",
            next_step=probe.how_to_get or "build on the machine that will run it, or --engine tensorrt-rtx",
        )
    return {choice: _compiler(choice, engine_options)}, ()


def _compiler(name: str, engine_options: EngineOptions) -> Compiler:
    takes_cache = "cache" in inspect.signature(registry.factory(name)).parameters  # one without it keeps none
    return registry.compiler(name, **({"cache": engine_options.cache} if takes_cache else {}))


def compile_graph(
    model: OnnxArtifact,
    choice: str,
    engine_options: EngineOptions,
    *,
    compilers: Mapping[str, Compiler],
    folder: Path,
    progress: Progress = SILENT,
) -> tuple[tuple[EngineArtifact, ...], tuple[EngineOutcome, ...]]:
    """Compile ``model`` with every compiler; under ``AUTO`` one that fails becomes an outcome that says why.

    Raises:
        BuildError: The graph cannot be compiled by the compiler that was asked for.
        MissingDependencyError: Something that the build needs is missing.
        UsageError: The settings do not fit the graph.
    """
    metadata = read_metadata(model.path)
    nominal = read_preprocessing(model.path).input_size if "preprocessing" in metadata else None
    divisor = int(metadata["size_divisor"]) if "size_divisor" in metadata else None
    containers = find_containers(engine_options.containers)
    engines, outcomes = [], []
    for name, compiler in compilers.items():
        spec = engine_options.spec(model.signature, backend=name, nominal_size=nominal, divisor=divisor)
        wanted = [container for container in containers if name in container.compilers]
        for container in wanted:
            if container.check is not None:
                container.check(model, spec)
        try:
            engine, outcome = _compile(compiler, model, spec, folder=folder, progress=progress)
            made = [_contain(engine, it, compiler, model, spec, progress=progress) for it in wanted]
            outcome = replace(outcome, containers=tuple(made))
        except (BuildError, MissingDependencyError) as error:
            if choice != AUTO:
                raise
            outcomes.append(_failed(name, model, error))
        else:
            engines.append(engine)
            outcomes.append(outcome)
    return tuple(engines), tuple(outcomes)


def _compile(
    compiler: Compiler, model: OnnxArtifact, spec: BuildSpec, *, folder: Path, progress: Progress
) -> tuple[EngineArtifact, EngineOutcome]:
    """Compile ``model`` into ``folder`` under a name that says what it is and where it runs."""
    started = time.monotonic()
    draft = folder / f"{model.path.stem}.{compiler.name}.engine"
    engine = compiler.compile(model, spec, out=draft, progress=progress)
    seconds = time.monotonic() - started
    engine = _rename(engine, f"{model.path.stem}.{engine_tag(engine)}")
    needs = [f"{name.replace('_', ' ')} {wanted}" for name, wanted in engine.requirements.items()]
    outcome = EngineOutcome(
        backend=engine.backend,
        file=engine.path.name,
        source=model.path.name,
        seconds=seconds,
        bytes=engine.path.stat().st_size,
        detail=", ".join([engine.backend, *needs]),
    )
    return engine, outcome


def _contain(
    engine: EngineArtifact,
    container: Container,
    compiler: Compiler,
    model: OnnxArtifact,
    spec: BuildSpec,
    *,
    progress: Progress,
) -> str:
    """Write a container beside an engine; return the name of its folder."""
    target = engine.path.with_name(f"{engine.path.stem}.{container.name}")
    with atomic_directory(target, replace=True) as partial:
        plan = engine.path
        if container.graph is not None:
            own = container.graph(model, partial)
            plan = compiler.compile(own, spec, out=partial / f"{own.path.stem}.engine", progress=progress).path
        container.write(plan, read_record(plan), partial)
    progress.warn(f"'{target.name}' for {container.title} follows its documentation; it has not been run yet")
    return target.name


def _failed(name: str, model: OnnxArtifact, error: LinglosError) -> EngineOutcome:
    detail = f"{error.message} {error.found or ''}".strip()
    return EngineOutcome(backend=name, file=None, source=model.path.name, seconds=0.0, bytes=0, detail=detail)


def engine_tag(engine: EngineArtifact) -> str:
    """Return the part of an engine's file name that says who can load it, such as ``tensorrt-rtx1.7.1-sm86+``."""
    capability = engine.requirements.get("compute_capability", "")
    targets = capability.replace(" or later", "+").replace(", ", "_").replace(".", "")
    where = f"sm{targets}" if targets else engine.requirements.get("platform", "")
    return "-".join(filter(None, [f"{engine.backend}{engine.requirements.get('version', '')}", where]))


def not_built(probe: Probe, source: str) -> EngineOutcome:
    """Say why ``AUTO`` passed a compiler over."""
    how = f"; {probe.how_to_get}" if probe.how_to_get else ""
    return EngineOutcome(
        backend=probe.name, file=None, source=source, seconds=0.0, bytes=0, detail=f"{probe.detail}{how}"
    )


def _rename(engine: EngineArtifact, stem: str) -> EngineArtifact:
    for file in engine.path.parent.glob(f"{engine.path.stem}.*"):
        file.rename(file.with_name(stem + file.suffix))
    return replace(engine, path=engine.path.with_name(f"{stem}.engine"))
