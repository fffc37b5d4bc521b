"""What a path on the command line stands for: a bundle, a graph, an engine, a table, a plan or a report."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from inspect import signature
from pathlib import Path
from typing import Any

from linglos_deploy.backends import registry
from linglos_deploy.backends.cpu import Int8Mode
from linglos_deploy.bundle import MANIFEST, is_bundle, open_bundle
from linglos_deploy.compat import StrEnum
from linglos_deploy.errors import ArtifactError, UsageError
from linglos_deploy.profiling.access import EngineAccess
from linglos_deploy.profiling.plan import Candidate, OptionValue
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.reports.comparison import ComparisonReport
from linglos_deploy.reports.doctor import DoctorReport
from linglos_deploy.reports.export import ExportReport
from linglos_deploy.reports.parity import LayerReport, ParityOutcome, ParityReport
from linglos_deploy.reports.profile import ProfileReport


class Kind(StrEnum):
    """What a path turned out to be."""

    BUNDLE = "bundle"
    GRAPH = "graph"
    ENGINE = "engine"
    TABLE = "table"
    PLAN = "plan"
    MANIFEST = "manifest"
    RECORD = "record of an engine"
    REPORT = "report"
    TENSORS = "file of tensors"


def kind_of(path: Path) -> Kind:
    """Tell what ``path`` is, from its name and, for JSON, its schema.

    Raises:
        ArtifactError: There is nothing at ``path``.
        UsageError: It is nothing that this program makes.
    """
    if not path.exists():
        raise ArtifactError(
            f"There is nothing at '{path}'.",
            found="nothing",
            expected="a bundle, a .onnx graph, a .engine, a calibration .table or a plan",
            next_step="check the path; 'linglos-deploy export --variant s' makes a bundle in build/linglo_s",
        )
    if path.is_dir():
        if is_bundle(path):
            return Kind.BUNDLE
        inside = [entry for entry in sorted(path.iterdir()) if is_bundle(entry)]
        raise UsageError(
            f"'{path}' is a directory without a {MANIFEST}.",
            found=f"{sum(1 for _ in path.iterdir())} other entries",
            expected="a bundle made by 'linglos-deploy export'",
            next_step=f"did you mean '{inside[0]}'?" if inside else "name the bundle's own directory",
        )
    by_suffix = {
        ".onnx": Kind.GRAPH,
        ".engine": Kind.ENGINE,
        ".table": Kind.TABLE,
        ".safetensors": Kind.TENSORS,
    }
    if path.suffix in by_suffix:
        return by_suffix[path.suffix]
    if path.suffix == ".json" and (kind := _kind_of_json(path)) is not None:
        return kind
    raise UsageError(
        f"'{path}' is nothing that linglos-deploy makes.",
        found=f"a file ending in '{path.suffix}'",
        expected="a bundle, or a file ending in .onnx, .engine, .table or .safetensors, or a plan's or report's .json",
        next_step="check the path; 'linglos-deploy export --variant s' makes a bundle in build/linglo_s",
    )


def models_of(path: Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Return the graphs and the engines of a bundle, or the one graph or engine that ``path`` is.

    Raises:
        ArtifactError: There is nothing there, or the bundle is damaged.
        UsageError: It is nothing that can be run.
    """
    kind = kind_of(path)
    if kind is Kind.GRAPH:
        return (path,), ()
    if kind is Kind.ENGINE:
        return (), (path,)
    if kind is Kind.BUNDLE:
        manifest = open_bundle(path).manifest
        return tuple(path / entry.file for entry in manifest.graphs), tuple(
            path / entry.file for entry in manifest.engines
        )
    raise UsageError(
        f"'{path}' cannot be run.",
        found=f"a {kind}",
        expected="a bundle, a graph or an engine",
        next_step=f"linglos-deploy inspect {path}",
    )


def candidates_by_path(
    paths: Sequence[Path], backends: Sequence[str], access: EngineAccess | None = None, *, progress: Progress = SILENT
) -> list[list[Candidate]]:
    """Return what ``profile`` measures for each path, as it is deployed: graphs on backends, every engine on its own.

    An INT8 graph runs with the kernels that a deployment uses. One of a bundle is measured on the backends that it is
    made for; a graph that is named by itself, on all.

    Args:
        paths: Bundles, graphs and engines.
        backends: What runs the graphs.
        access: What engines need to be opened, beyond their files.
        progress: Told which graphs of a bundle are left out.

    Raises:
        ArtifactError: There is nothing at a path, or a bundle is damaged.
        UsageError: A path is neither a bundle nor a model, or no engine has a use for what ``access`` says.
    """
    access = access or EngineAccess()
    groups: list[list[Candidate]] = []
    for path, prefix in zip(paths, _prefixes(paths), strict=True):
        graphs, engines = models_of(path)
        of_graphs = [
            Candidate(
                backend,
                graph,
                label=f"{prefix}{graph.name} · {backend}",
                options=_deployed_options(backend),
                device=access.device,
            )
            for graph, runtimes in zip(graphs, _runtimes(path, graphs, backends, progress), strict=True)
            for backend in runtimes
        ]
        of_engines = [
            access.candidate(engine_backend(engine), engine, label=f"{prefix}{engine.name}") for engine in engines
        ]
        groups.append([*of_graphs, *of_engines])
    access.check_used([candidate for group in groups for candidate in group])
    return groups


def _runtimes(
    path: Path, graphs: Sequence[Path], backends: Sequence[str], progress: Progress
) -> Sequence[Sequence[str]]:
    """Return the backends on which each graph's time means something."""
    if kind_of(path) is not Kind.BUNDLE:
        return [backends] * len(graphs)
    entries, machine = open_bundle(path).manifest.graphs, platform.machine()
    chosen = [[it for it in backends if not entry.runtimes or entry.serves(it, machine)] for entry in entries]
    left = [
        f"{entry.file} ({', '.join(entry.runtimes)})" for entry, few in zip(entries, chosen, strict=True) if not few
    ]
    if left:
        progress.warn(
            f"not measured, because made for other runtimes than {', '.join(backends)}: {'; '.join(left)}; "
            f"name a file, such as {path / left[0].split(' ')[0]}, to measure it all the same"
        )
    return chosen


def _deployed_options(backend: str) -> dict[str, OptionValue]:
    return {"int8": Int8Mode.SAFE.value} if "int8" in signature(registry.factory(backend)).parameters else {}


def _prefixes(paths: Sequence[Path]) -> list[str]:
    """Return what tells the files of each path from those of the others: the folders' names, as many as it takes."""
    folders = [path.absolute() if path.is_dir() else path.absolute().parent for path in paths]
    names = [path.name if path.is_file() else "" for path in paths]
    if len(paths) == 1 or ("" not in names and len(set(names)) == len(names)):
        return ["" for _ in paths]
    for depth in range(1, max(len(folder.parts) for folder in folders)):
        ends = ["/".join(folder.parts[-depth:]) for folder in folders]
        if len(set(zip(ends, names, strict=True))) == len(set(zip(folders, names, strict=True))):
            break
    return [f"{end}/" for end in ends]


def engine_backend(engine: Path) -> str:
    """Return the backend that runs an engine, from its sidecar.

    Raises:
        ArtifactError: There is no readable sidecar.
    """
    from linglos_deploy.engines.record import read_record

    return read_record(engine).backend


def report_type(content: Mapping[str, Any]) -> type | None:
    """Return the report that a JSON object is: the one whose every field without a default it has."""
    for kind in (
        ExportReport,
        ProfileReport,
        DoctorReport,
        LayerReport,
        ParityReport,
        ParityOutcome,
        ComparisonReport,
    ):
        needed = {item.name for item in fields(kind) if item.default is MISSING and item.default_factory is MISSING}
        if needed <= content.keys():
            return kind
    return None


def _kind_of_json(path: Path) -> Kind | None:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict):
        return None
    name = str(content.get("schema", "")).partition("/")[0]
    known = {"linglos.plan": Kind.PLAN, "linglos.bundle": Kind.MANIFEST, "linglos.engine": Kind.RECORD}
    if name in known:
        return known[name]
    return None if report_type(content) is None else Kind.REPORT
