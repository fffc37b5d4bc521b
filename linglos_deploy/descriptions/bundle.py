"""How a bundle looks: the model, how images become its input, the files, and what to know before shipping."""

from __future__ import annotations

from linglos_deploy.bundle import GraphEntry, Manifest
from linglos_deploy.descriptions.common import made_by, signature_table
from linglos_deploy.reports.document import Cell, Column, Section, Table, sections_of
from linglos_deploy.reports.numbers import file_size


@sections_of.register
def manifest_sections(manifest: Manifest) -> tuple[Section, ...]:
    """One section; whether its checks passed is what the manifest says, not what was checked now."""
    checks = "passed" if manifest.passed else "failed"
    return (
        Section(
            title=f"Bundle {manifest.name}",
            summary=f"{len(manifest.graphs)} graphs, {len(manifest.engines)} engines, {len(manifest.labels)} labels; "
            f"its checks {checks} when it was made.",
            warnings=manifest.warnings,
            facts=(
                ("images", manifest.preprocessing.describe()),
                ("tools", ", ".join(f"{name} {version}" for name, version in manifest.tools.items())),
            ),
            tables=(_files(manifest), signature_table(manifest.graphs[0].signature)),
            notes=made_by(manifest.graphs[-1].lineage),
        ),
    )


def _files(manifest: Manifest) -> Table:
    columns = (
        Column("file"),
        Column("precision"),
        Column("input", minor=True),
        Column("size", numeric=True),
        Column("runs on", prose=True),
    )
    rows = []
    for graph in manifest.graphs:
        size = file_size(manifest.files[graph.file].bytes)
        rows.append((Cell(graph.file), Cell(graph.precision), Cell(graph.input), Cell(size), Cell(_made_for(graph))))
    for engine in manifest.engines:
        runs_on = ", ".join([engine.backend, *(f"{key} {value}" for key, value in engine.requirements.items())])
        size = file_size(manifest.files[engine.file].bytes)
        rows.append((Cell(engine.file), Cell(engine.precision), Cell(engine.input), Cell(size), Cell(runs_on)))
    return Table("Graphs and engines", columns, tuple(rows))


def _made_for(graph: GraphEntry) -> str:
    """Return the runtimes and processors that a graph is made for, and what ONNX Runtime must be told to run it."""
    runtimes = ", ".join(graph.runtimes) or "any ONNX runtime"
    machines = f" on {', '.join(graph.machines)}" if graph.machines else ""
    options = ", ".join(f"{name}={value}" for name, value in graph.session_options.items())
    return f"{runtimes}{machines}" + (f"; onnxruntime with {options}" if options else "")
