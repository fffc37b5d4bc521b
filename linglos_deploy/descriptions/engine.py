"""How an engine looks: what built it, what it needs, and in which precision its layers run."""

from __future__ import annotations

from linglos_deploy.descriptions.common import made_by, signature_table
from linglos_deploy.engines.record import EngineRecord
from linglos_deploy.reports.document import Cell, Column, Section, Table, sections_of
from linglos_deploy.reports.numbers import file_size


@sections_of.register
def engine_sections(record: EngineRecord) -> tuple[Section, ...]:
    """One section of what the record beside the engine says."""
    facts = (
        ("runs on", f"compute capability {record.target.describe()}" if record.target.describe() else ""),
        ("instructions", ", ".join(record.target.instructions)),
        ("platform", record.target.platform),
        ("precision", record.precision.detail),
        ("graph", f"{record.onnx_name}, SHA-256 {record.onnx_digest}"),
        ("SHA-256", record.digest),
    )
    return (
        Section(
            title="Engine",
            summary=f"Built by {record.backend} {record.version}, {file_size(record.bytes)}.",
            facts=tuple((name, value) for name, value in facts if value),
            tables=(signature_table(record.signature), *_precision_table(record)),
            notes=made_by(record.lineage),
        ),
    )


def _precision_table(record: EngineRecord) -> tuple[Table, ...]:
    """The layers that do not run in the precision that the graph asks for, or of which that cannot be told."""
    lacking = [node for node in record.precision.nodes if node.got != node.asked]
    if not lacking:
        return ()
    table = Table(
        title="Layers that lack the precision they were asked for",
        columns=(*map(Column, ("layer", "operator", "asked", "runs in")), Column("reason", prose=True)),
        rows=tuple(
            (Cell(it.node), Cell(it.op_type), Cell(it.asked), Cell(it.got or "unknown"), Cell(it.reason))
            for it in lacking
        ),
    )
    return (table,)
