"""What goes into a model and what comes out: names, element types and shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from linglos_deploy.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    Batch = Mapping[str, np.ndarray]
    """Named arrays: the inputs or the outputs of one run; the first axis of each is the batch."""
else:
    Batch = Mapping

Dim = int | str
"""A fixed size, or the name of a dynamic one; equal names are equal sizes. See :func:`unnamed` for those without."""

_UNNAMED = "?"
_SAYS_NOTHING = frozenset({"", "?", "-1", "None", "none"})
"""What exporters write for an axis of which they know nothing: no name, as the same text stands for different sizes."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output.

    Attributes:
        name: Tensor name in the graph.
        dtype: NumPy's name of the element type, such as ``"float32"`` or ``"uint8"``; ``"bfloat16"`` as in ml_dtypes.
        shape: One :data:`Dim` per axis; ``None`` where not even the number of axes is known.
    """

    name: str
    dtype: str
    shape: tuple[Dim, ...] | None

    def __post_init__(self) -> None:
        if self.shape is not None:
            object.__setattr__(self, "shape", tuple(self.shape))

    @property
    def dims(self) -> tuple[Dim, ...]:
        """The shape, for those who cannot do without the number of axes.

        Raises:
            DataError: It is not known.
        """
        if self.shape is None:
            raise DataError(
                f"The model does not say how many axes '{self.name}' has.",
                found="a tensor without a shape",
                expected="a shape; its sizes may be free",
                next_step="state it with onnx.shape_inference.infer_shapes, or where the file is made",
            )
        return self.shape

    def describe(self) -> str:
        """Return a readable form such as ``image float32[batch, 3, ?, ?]``."""
        if self.shape is None:
            return f"{self.name} {self.dtype}[...]"
        return f"{self.name} {self.dtype}[{', '.join(_UNNAMED if is_unnamed(dim) else str(dim) for dim in self.shape)}]"


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


@dataclass(frozen=True, slots=True)
class Decoding:
    """What a model's outputs mean, as the manifest says it to every loader.

    Attributes:
        task: The task's name.
        outputs: The model's output for each role that the task knows, such as ``{"logits": "logits"}``.
        settings: What was chosen of the task's settings, such as ``{"output": "classes"}``.
    """

    task: str
    outputs: Mapping[str, str]
    settings: Mapping[str, str] = field(default_factory=dict)


def dim_named(name: str, tensor: str, axis: int) -> Dim:
    """Return a dynamic axis by the name that a file gives it; see :func:`unnamed` for one that says nothing.

    >>> dim_named("batch", "image", 0), dim_named("?", "image", 2)
    ('batch', '?image.2')
    """
    return unnamed(tensor, axis) if name in _SAYS_NOTHING else name


def unnamed(tensor: str, axis: int) -> Dim:
    """Return a dynamic axis of which nothing is known: a name of its own, so that it equals no other one."""
    return f"{_UNNAMED}{tensor}.{axis}"


def is_unnamed(dim: Dim) -> bool:
    """Return whether a dynamic axis has only the name that :func:`unnamed` gives."""
    return isinstance(dim, str) and dim.startswith(_UNNAMED)


def _shape_fits(found: Sequence[int], expected: Sequence[Dim] | None, sizes: dict[str, int]) -> bool:
    if expected is None:
        return True
    if len(found) != len(expected):
        return False
    for size, dim in zip(found, expected, strict=True):
        wanted = dim if isinstance(dim, int) else sizes.setdefault(dim, size)
        if size != wanted:
            return False
    return True
