"""How an ONNX graph looks: inputs and outputs, operators, weights, and what the exporter wrote into it."""

from __future__ import annotations

from linglos_deploy.descriptions.common import signature_table
from linglos_deploy.inspection import GraphDescription
from linglos_deploy.reports.document import Cell, Column, Section, Table, sections_of
from linglos_deploy.reports.numbers import file_size


@sections_of.register
def graph_sections(graph: GraphDescription) -> tuple[Section, ...]:
    """One section: sizes, signature, operators by number, and how each attention is written down."""
    weights = ", ".join(f"{dtype} {file_size(size)}" for dtype, size in graph.weights.items())
    nodes = sum(graph.operators.values())
    domains = ", ".join(name or "ai.onnx" for name in graph.domains)
    return (
        Section(
            title=graph.file,
            summary=f"ONNX graph, {file_size(graph.bytes)}, opset {graph.opset}, {nodes} nodes.",
            facts=(
                ("SHA-256", graph.digest),
                ("weights", weights or "none"),
                ("operator domains", domains),
                *graph.metadata.items(),
            ),
            tables=(signature_table(graph.signature), _operators(graph), *_attention(graph)),
        ),
    )


def _operators(graph: GraphDescription) -> Table:
    rows = tuple((Cell(operator), Cell(str(count))) for operator, count in graph.operators.items())
    return Table("Operators", (Column("operator"), Column("nodes", numeric=True)), rows, first=10)


def _attention(graph: GraphDescription) -> tuple[Table, ...]:
    if not graph.attention:
        return ()
    columns = (
        Column("attention"),
        Column("form"),
        Column("C", numeric=True, minor=True),
        Column("heads", numeric=True, minor=True),
        Column("positions", numeric=True, minor=True),
        Column("MACs before", numeric=True),
        Column("after", numeric=True),
        Column("why", minor=True, prose=True),
    )
    rows = tuple(
        (
            Cell(record.path),
            Cell(record.form),
            Cell(str(record.channels)),
            Cell(str(record.heads)),
            Cell(str(record.positions)),
            Cell(f"{record.macs_before / 1e6:.2f} M"),
            Cell(f"{record.macs_after / 1e6:.2f} M"),
            Cell(record.reason),
        )
        for record in graph.attention
    )
    return (Table("How attention is written down", columns, rows),)
