"""What several descriptions have in common: inputs and outputs, and how a thing came to be."""

from __future__ import annotations

from linglos_deploy.artifacts import Lineage
from linglos_deploy.reports.document import Cell, Column, Table
from linglos_deploy.signature import ModelSignature


def signature_table(signature: ModelSignature) -> Table:
    """Return inputs and outputs with their types and shapes."""
    rows = [("input", tensor) for tensor in signature.inputs] + [("output", tensor) for tensor in signature.outputs]
    return Table(
        "Inputs and outputs",
        (Column(""), Column("tensor", prose=True)),
        tuple((Cell(side), Cell(tensor.describe())) for side, tensor in rows),
    )


def made_by(lineage: Lineage) -> tuple[str, ...]:
    """Return the stages that led to a thing, as a note; nothing where none is known."""
    return (f"made by {' -> '.join(step.stage for step in lineage)}",) if lineage else ()
