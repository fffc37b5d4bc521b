"""What goes into a model and what comes out: names, element types and shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from linglos_deploy.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    Batch = Mapping[str, np.ndarray]
    """Named arrays: the inputs or the outputs of one run; the first axis of each is the batch."""
else:
    Batch = Mapping

Dim = int | str
"""A fixed size, or the name of a dynamic one; equal names are equal sizes."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output.

    Attributes:
        name: Tensor name in the graph.
        dtype: NumPy's name of the element type, such as ``"float32"`` or ``"uint8"``; ``"bfloat16"`` as in ml_dtypes.
        shape: One :data:`Dim` per axis.
    """

    name: str
    dtype: str
    shape: tuple[Dim, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))

    def describe(self) -> str:
        """Return a readable form such as ``image float32[batch, 3, 224, 224]``."""
        return f"{self.name} {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class ModelSignature:
    """All inputs and all outputs of a model, in graph order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "outputs", tuple(self.outputs))

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in graph order."""
        return tuple(spec.name for spec in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in graph order."""
        return tuple(spec.name for spec in self.outputs)

    def check_inputs(self, batch: Batch) -> None:
        """Check names, element types and shapes of ``batch`` against the inputs.

        Raises:
            DataError: A name is missing or unknown, or an array has another dtype or shape.
        """
        if set(batch) != set(self.input_names):
            raise DataError(
                "The batch does not name the model's inputs.",
                found=", ".join(sorted(batch)) or "no arrays",
                expected=", ".join(self.input_names),
            )
        sizes: dict[str, int] = {}
        for spec in self.inputs:
            array = batch[spec.name]
            if array.dtype.name != spec.dtype or not _shape_fits(array.shape, spec.shape, sizes):
                raise DataError(
                    f"Input '{spec.name}' does not fit the model.",
                    found=f"{array.dtype.name}{list(array.shape)}",
                    expected=spec.describe(),
                )


def _shape_fits(found: Sequence[int], expected: Sequence[Dim], sizes: dict[str, int]) -> bool:
    if len(found) != len(expected):
        return False
    for size, dim in zip(found, expected, strict=True):
        wanted = dim if isinstance(dim, int) else sizes.setdefault(dim, size)
        if size != wanted:
            return False
    return True
