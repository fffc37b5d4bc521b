"""How a safetensors file looks: golden tensors of a bundle, or a checkpoint."""

from __future__ import annotations

from linglos_deploy.inspection import TensorFile
from linglos_deploy.reports.document import Cell, Column, Section, Table, sections_of
from linglos_deploy.reports.numbers import file_size


@sections_of.register
def tensor_sections(file: TensorFile) -> tuple[Section, ...]:
    """What it is, what it says of itself, and a row for every tensor, the largest first."""
    columns = (Column("tensor"), Column("type"), Column("shape"))
    rows = tuple(
        (Cell(tensor.name), Cell(tensor.dtype), Cell(" x ".join(map(str, tensor.shape)) or "a scalar"))
        for tensor in sorted(file.tensors, key=lambda tensor: (-tensor.count, tensor.name))
    )
    return (
        Section(
            title=file.file,
            summary=f"{file.holds}: {len(file.tensors)} tensors, {file_size(file.bytes)}.",
            facts=tuple(file.metadata.items()),
            tables=(Table("Tensors, the largest first", columns, rows, first=10),),
        ),
    )
