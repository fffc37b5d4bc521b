"""How a calibration table looks: what was seen of each tensor, and where each method would clip."""

from __future__ import annotations

import math

from linglos_deploy.calibration.figures import describe, facts_of, histogram
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.inspection import TableSummary, TensorSummary, summarize_table
from linglos_deploy.reports.document import Cell, Column, Section, Table, Tone, sections_of

DEFAULT = "weighted"
"""The method whose bounds a summary shows."""


@sections_of.register
def table_sections(table: CalibrationTable) -> tuple[Section, ...]:
    """The summary, and a section with a histogram for every tensor."""
    (summary,) = summary_sections(summarize_table(table))
    facts = facts_of(table)
    drawn = []
    for name, stats in table.tensors.items():
        chart = histogram(stats)
        drawn.append(Section(title=name, summary=describe(stats), charts=() if chart is None else (chart,)))
    head = Section(summary.title, None, summary.summary, facts, summary.warnings, (), summary.tables, summary.notes)
    return (head, *drawn)


@sections_of.register
def summary_sections(table: TableSummary) -> tuple[Section, ...]:
    """A row for every tensor, those with the furthest outliers first."""
    what = "images" if table.of_images else "samples"
    source = f"synthetic {what}" if table.synthetic else what
    broken = [tensor.tensor for tensor in table.tensors if tensor.nonfinite]
    warnings = []
    if table.synthetic:
        warnings.append(f"The {what} are synthetic: good for graphs and latency, useless for accuracy.")
    if broken:
        warnings.append(f"{len(broken)} tensors held NaN or infinite values: {', '.join(broken[:3])}")
    return (
        Section(
            title="Calibration table",
            summary=f"{len(table.tensors)} tensors seen on {table.image_count} {source}.",
            facts=(("graph", f"SHA-256 {table.graph_digest}"), ("data", table.data_digest)),
            warnings=tuple(warnings),
            tables=(_tensors(table),) if table.tensors else (),
            notes=("reach: largest magnitude over the bound with the least error; far above 1, outliers rule",)
            if any(DEFAULT in tensor.bounds for tensor in table.tensors)
            else (),
        ),
    )


def _tensors(table: TableSummary) -> Table:
    methods = list(table.tensors[0].bounds)
    columns = (
        Column("tensor"),
        Column("min", numeric=True),
        Column("max", numeric=True),
        Column("mean", numeric=True, minor=True),
        Column("std", numeric=True, minor=True),
        *(Column(f"clip {method}", numeric=True, minor=method != DEFAULT) for method in methods),
        Column("reach", numeric=True),
    )
    return Table(
        "Tensors, those with the furthest outliers first",
        columns,
        tuple(_row(tensor, methods) for tensor in sorted(table.tensors, key=_reach, reverse=True)),
        first=10,
    )


def _row(tensor: TensorSummary, methods: list[str]) -> tuple[Cell, ...]:
    numbers = [tensor.minimum, tensor.maximum, tensor.mean, tensor.std, *(tensor.bounds[name] for name in methods)]
    reach = _reach(tensor)
    return (
        Cell(tensor.tensor),
        *(Cell(f"{number:.4g}") for number in numbers),
        Cell("NaN", Tone.BAD) if tensor.nonfinite else Cell(f"{reach:.2f}"),
    )


def _reach(tensor: TensorSummary) -> float:
    """Return how far values reach beyond the bound with the least error, as a ratio; NaN reaches furthest."""
    if tensor.nonfinite:
        return math.inf
    bound = tensor.bounds.get(DEFAULT, 0.0)
    return max(abs(tensor.minimum), abs(tensor.maximum)) / bound if bound > 0 else 0.0
