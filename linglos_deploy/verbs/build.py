"""Compile a graph into engines: what ``build`` does."""

from __future__ import annotations

from pathlib import Path

from linglos_deploy.artifacts import open_onnx
from linglos_deploy.engines.compiling import NONE, choose_compilers, compile_graph, not_built
from linglos_deploy.engines.dla import DLA, refuse_to_build
from linglos_deploy.engines.options import EngineOptions
from linglos_deploy.errors import MissingDependencyError, UsageError
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.reports.export import EngineOutcome
from linglos_deploy.verbs.graphs import deployed_graph


def build_engines(
    model: Path, choice: str, engine_options: EngineOptions, *, folder: Path, progress: Progress = SILENT
) -> tuple[EngineOutcome, ...]:
    """Compile one graph with every compiler that ``choice`` stands for.

    Raises:
        ArtifactError: The graph is missing or damaged.
        MissingDependencyError: Nothing can be built here.
        BuildError: The graph cannot be compiled.
        UsageError: There is nothing to build, or it is for a DLA core.
    """
    if choice == NONE:
        raise UsageError(
            "There is nothing to build.",
            found="--engine none",
            expected="an engine to build",
            next_step="--engine auto",
        )
    if engine_options.target == DLA:
        raise refuse_to_build(deployed_graph(model, verb="build"))
    compilers, passed_over = choose_compilers(choice, engine_options)
    if not compilers:
        raise MissingDependencyError(
            "No engine can be built here.",
            found="; ".join(f"{probe.name}: {probe.detail}" for probe in passed_over),
            expected="tensorrt-rtx, or tensorrt and a GPU",
            next_step=passed_over[0].how_to_get if passed_over else "see 'linglos-deploy doctor'",
        )
    model = deployed_graph(model, verb="build")
    _, outcomes = compile_graph(
        open_onnx(model), choice, engine_options, compilers=compilers, folder=folder, progress=progress
    )
    everything = (*outcomes, *(not_built(probe, model.name) for probe in passed_over))
    if not any(outcome.file for outcome in everything):
        raise MissingDependencyError(
            "No engine could be built.",
            found="; ".join(f"{outcome.backend}: {outcome.detail}" for outcome in everything),
            expected="a compiler that works here",
            next_step="see 'linglos-deploy doctor'",
        )
    return everything
