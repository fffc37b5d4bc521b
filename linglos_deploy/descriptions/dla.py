"""How the answer about a DLA core looks: a count, what holds for all layers, and a row a layer."""

from __future__ import annotations

from linglos_deploy.engines.dla import DlaReport
from linglos_deploy.reports.document import Cell, Column, Section, Table, Tone, sections_of

_WORDS = {True: ("yes", Tone.GOOD), False: ("no", Tone.BAD), None: ("may", Tone.NEUTRAL)}


@sections_of.register
def dla_sections(report: DlaReport) -> tuple[Section, ...]:
    """One section; the layers that a core does not take for sure have their reason."""
    columns = (Column("layer"), Column("operator"), Column("DLA"), Column("reason", prose=True))
    rows = tuple(
        (Cell(layer.node), Cell(layer.op_type), Cell(*_WORDS[layer.taken]), Cell(layer.reason))
        for layer in report.layers
    )
    return (
        Section(
            title=f"{report.graph} on a DLA core",
            summary=f"{report.summary}.",
            notes=report.notes,
            tables=(Table("Layers", columns, rows, first=20),),
        ),
    )
