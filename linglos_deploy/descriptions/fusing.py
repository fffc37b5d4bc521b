"""How the answer about TensorRT's fusions looks: a count, and a row for each INT8 layer."""

from __future__ import annotations

from linglos_deploy.backends.trt.fusing import FusionReport
from linglos_deploy.reports.document import Cell, Column, Section, Table, sections_of


@sections_of.register
def fusion_sections(report: FusionReport) -> tuple[Section, ...]:
    """One section; a layer whose result is rounded by a kernel of its own has its reason."""
    columns = (
        Column("layer"),
        Column("operator"),
        Column("gives", prose=True),
        Column("with it", minor=True),
        Column("reason", prose=True),
    )
    rows = tuple(
        (
            Cell(layer.node),
            Cell("depthwise Conv" if layer.depthwise else layer.op_type),
            Cell(layer.gives.value),
            Cell(", ".join(layer.with_it)),
            Cell(layer.reason),
        )
        for layer in report.layers
    )
    return (
        Section(
            title=f"{report.graph} in TensorRT",
            summary=f"{report.summary}.",
            facts=(("pairs in front of layers", str(report.roundings)),),
            tables=(Table("INT8 layers", columns, rows, first=20),),
        ),
    )
