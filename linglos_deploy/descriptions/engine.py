"""How an engine looks: what built it, what it needs, and in which precision its layers run."""

from __future__ import annotations

from linglos_deploy.descriptions.common import made_by, signature_table
from linglos_deploy.engines.record import EngineRecord
from linglos_deploy.reports.document import Section, sections_of
from linglos_deploy.reports.numbers import file_size


@sections_of.register
def engine_sections(record: EngineRecord) -> tuple[Section, ...]:
    """One section of what the record beside the engine says."""
    facts = (
        ("runs on", f"compute capability {record.target.describe()}" if record.target.describe() else ""),
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
            tables=(signature_table(record.signature),),
            notes=made_by(record.lineage),
        ),
    )
