"""Made-up input for any graph: seeded, of the right types and sizes, with integers only where the graph shows a range.

Good for graphs and latency; what a network answers to noise says nothing about its accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from linglos_deploy.errors import DataError, UsageError
from linglos_deploy.graph.axes import input_axes
from linglos_deploy.graph.topology import attribute, value_shapes
from linglos_deploy.images.layout import likely_layout
from linglos_deploy.signature import Dim, ModelSignature, TensorSpec

_SAME_VALUES = frozenset(
    {
        "Cast",
        "Concat",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Reshape",
        "Slice",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators whose output holds no other integers than their first input (Concat: than all of them)."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes for the axes that a graph leaves free.

    Attributes:
        batch: Number of images; see :func:`~.axes.input_axes` for where they lie.
        image_size: Height and width of images, where the graph leaves them open.
        shapes: Whole shapes of inputs by name, instead of the others; ``""`` stands for the only input.
    """

    batch: int = 1
    image_size: tuple[int, int] | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


ONE = Sizes()


def parse_shapes(texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Read shapes as they are written on a command line.

    >>> parse_shapes(["tokens=1x128", "mask=1x128"])
    {'tokens': (1, 128), 'mask': (1, 128)}
    >>> parse_shapes(["1x3x48x320"])
    {'': (1, 3, 48, 320)}

    Raises:
        UsageError: A text is no shape, or there are two for one input.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        parts = sizes.split("x") if sizes else []
        if name in shapes or not all(part.isdecimal() and int(part) > 0 for part in parts):
            raise UsageError(
                f"'{text}' is not the shape of an input.",
                found="a second shape of the same input" if name in shapes else text,
                expected="name=1x3x320x320, or 1x3x320x320 where the model has one input",
                next_step="'linglos-deploy inspect' shows the names and what is fixed",
            )
        shapes[name] = tuple(int(part) for part in parts)
    return shapes


def input_shapes(signature: ModelSignature, sizes: Sizes = ONE) -> dict[str, tuple[int, ...]]:
    """Return a shape for every input: what is fixed as it is, equal names of axes as equal sizes.

    Raises:
        UsageError: A shape was given for an input that there is not.
        DataError: A fixed size is not the one that was asked for, or nothing says how large an axis shall be.
    """
    asked = _asked(signature, sizes)
    bound: dict[str, int] = {}
    for spec in signature.inputs:
        for axis, (dim, size) in enumerate(zip(spec.dims, asked[spec.name], strict=True)):
            if isinstance(dim, str) and size is not None and bound.setdefault(dim, size) != size:
                raise DataError(
                    f"Axis {axis} of '{spec.name}' has two sizes.",
                    found=f"{size}, and {bound[dim]} where another axis is called '{dim}'",
                    expected=spec.describe(),
                )
    return {
        spec.name: tuple(
            _size(spec, axis, dim, bound.get(dim, wanted) if isinstance(dim, str) else wanted)
            for axis, (dim, wanted) in enumerate(zip(spec.dims, asked[spec.name], strict=True))
        )
        for spec in signature.inputs
    }


def synthetic_feeds(
    signature: ModelSignature,
    sizes: Sizes = ONE,
    *,
    seed: int,
    index_ranges: Mapping[str, int] | None = None,
) -> dict[str, np.ndarray]:
    """Return one array per input: normal numbers for floats, uniform ones for bytes, truth values and indices.

    Args:
        signature: Of the model.
        sizes: Of the axes that it leaves free.
        seed: Of the random numbers.
        index_ranges: How many values each integer input may take, from 0; see :func:`index_ranges`.

    Raises:
        DataError: See :func:`input_shapes`; or nothing says which integers an input takes.
    """
    generator = np.random.default_rng(seed)
    shapes = input_shapes(signature, sizes)
    return {
        spec.name: _random(spec, shapes[spec.name], generator, (index_ranges or {}).get(spec.name))
        for spec in signature.inputs
    }


def index_ranges(model: onnx.ModelProto) -> dict[str, int]:
    """Return, for each integer input that picks rows of a table (an embedding), how many rows the table has.

    The least of them where an input picks from several; inputs that pick from none are left out.
    """
    shapes = value_shapes(model)
    found: dict[str, int] = {}
    for value in model.graph.input:
        carried, rows = {value.name}, math.inf
        for node in model.graph.node:  # in topological order
            if node.op_type == "Gather" and len(node.input) > 1 and node.input[1] in carried:
                axis = attribute(node, "axis")
                table = shapes.get(node.input[0]) or ()
                size = table[axis.i if axis is not None else 0] if table else None
                rows = min(rows, size) if isinstance(size, int) else rows
            places = node.input if node.op_type == "Concat" else node.input[:1]
            if node.op_type in _SAME_VALUES and carried.intersection(places):
                carried.update(node.output)
        if rows < math.inf:
            found[value.name] = int(rows)
    return found


def _asked(signature: ModelSignature, sizes: Sizes) -> dict[str, tuple[int | None, ...]]:
    """Return per input the size that was asked for at each axis."""
    given = dict(sizes.shapes)
    if "" in given and len(signature.inputs) == 1:
        given[signature.inputs[0].name] = given.pop("")
    unknown = [name for name in given if name not in signature.input_names]
    if unknown:
        raise UsageError(
            f"There is no input '{unknown[0]}' to give a shape to." if unknown[0] else "A shape needs an input's name.",
            found=", ".join(name or "a shape without a name" for name in unknown),
            expected=", ".join(spec.describe() for spec in signature.inputs),
            next_step=f"--shape {signature.input_names[0]}=…",
        )
    asked: dict[str, tuple[int | None, ...]] = {}
    axes = input_axes(signature).axes
    for spec in signature.inputs:
        if spec.name not in given:
            asked[spec.name] = _usual(spec, sizes, axes[spec.name])
        elif len(given[spec.name]) == len(spec.dims):
            asked[spec.name] = given[spec.name]
        else:
            raise DataError(
                f"Input '{spec.name}' has another number of axes.",
                found="x".join(map(str, given[spec.name])) or "no axis",
                expected=spec.describe(),
            )
    return asked


def _usual(spec: TensorSpec, sizes: Sizes, batch_axis: int | None) -> tuple[int | None, ...]:
    wanted: list[int | None] = [None] * len(spec.dims)
    if batch_axis is not None:
        wanted[batch_axis] = sizes.batch
    layout = likely_layout(spec)
    if layout is not None and sizes.image_size is not None:
        for place, axis in enumerate(layout.spatial_axes):
            wanted[axis] = sizes.image_size[place]
    return tuple(wanted)


def _size(spec: TensorSpec, axis: int, dim: Dim, wanted: int | None) -> int:
    if isinstance(dim, str):
        if wanted is None:
            raise DataError(
                f"Axis {axis} of '{spec.name}' may have any size; none was asked for.",
                found=spec.describe(),
                expected="a size for every axis",
                next_step=f"--shape {spec.name}={'x'.join(str(d) if isinstance(d, int) else '…' for d in spec.dims)}, "
                "or real input with --data",
            )
        return wanted
    if wanted is not None and wanted != dim:
        raise DataError(
            f"The model takes no such input: axis {axis} of '{spec.name}' is fixed.",
            found=f"{wanted} asked for",
            expected=spec.describe(),
            next_step="measure with that size, or export the model with dynamic sizes",
        )
    return dim


def _random(spec: TensorSpec, shape: tuple[int, ...], generator: np.random.Generator, values: int | None) -> np.ndarray:
    if spec.dtype == "uint8":
        return generator.integers(0, 256, shape, dtype=np.uint8)
    if spec.dtype == "bool":
        return generator.integers(0, 2, shape).astype(np.bool_)
    if spec.dtype in {"float16", "float32", "float64"}:
        return generator.standard_normal(shape, dtype=np.float32).astype(spec.dtype, copy=False)
    if np.dtype(spec.dtype).kind in "iu" and values is not None:
        return generator.integers(0, values, shape).astype(spec.dtype)
    raise DataError(
        f"No input can be made up for '{spec.name}'.",
        found=f"{spec.describe()}, whose values the graph does not limit to the rows of a table",
        expected="floating-point numbers, bytes, truth values, or the indices of an embedding",
        next_step="give real values in an .npz by input name with --data",
    )
