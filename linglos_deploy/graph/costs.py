"""What a node costs, from the shapes that its graph states: multiplications, and bytes moved.

Both are bounds that need no machine: a product cannot take fewer multiplications, and a kernel that reads its inputs
and writes its outputs once moves these bytes. Which of the two binds depends on the machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from linglos_deploy.graph.operators import Work, operator

Sizes = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a node costs.

    Attributes:
        macs: Multiplications, each with its addition; ``None`` if the operator's are not counted or a size is open.
        bytes: Of all inputs and outputs together, each once; ``None`` if a shape or type is not known.
    """

    macs: int | None
    bytes: int | None


def cost(node: ir.Node) -> Cost:
    """Return what a node costs for the sizes that its graph states.

    Args:
        node: Its values have shapes and types; where a size is open, what depends on it is ``None``.
    """
    count = _COUNTS[operator(node).work]
    inputs = [_sizes(value) for value in node.inputs]
    outputs = [_sizes(value) for value in node.outputs]
    return Cost(macs=count(node, inputs, outputs), bytes=_bytes(node))


def _sizes(value: ir.Value | None) -> Sizes | None:
    if value is None or value.shape is None:
        return None
    sizes = tuple(size for size in value.shape if isinstance(size, int))
    return sizes if len(sizes) == len(value.shape) else None


def _bytes(node: ir.Node) -> int | None:
    total = 0
    for value in {id(value): value for value in (*node.inputs, *node.outputs) if value is not None}.values():
        sizes = _sizes(value)
        if sizes is None or value.dtype is None or value.dtype == ir.DataType.STRING:
            return None
        total += math.ceil(math.prod(sizes) * value.dtype.itemsize)
    return total


Shapes = Sequence[Sizes | None]


def _nothing(node: ir.Node, inputs: Shapes, outputs: Shapes) -> int | None:
    return 0


def _uncounted(node: ir.Node, inputs: Shapes, outputs: Shapes) -> int | None:
    return None


def _convolution(node: ir.Node, inputs: Shapes, outputs: Shapes) -> int | None:
    weight, made = inputs[operator(node).weights[0]], outputs[0]
    return None if weight is None or made is None else math.prod(made) * math.prod(weight[1:])


def _transposed(node: ir.Node, inputs: Shapes, outputs: Shapes) -> int | None:
    data, weight = inputs[0], inputs[operator(node).weights[0]]
    return None if data is None or weight is None else math.prod(data) * math.prod(weight[1:])


def _matmul(node: ir.Node, inputs: Shapes, outputs: Shapes) -> int | None:
    left, made = inputs[operator(node).data[0]], outputs[0]
    if left is None or made is None:
        return None
    length = left[-2] if node.op_type == "Gemm" and node.attributes.get_int("transA", 0) != 0 else left[-1]
    return math.prod(made) * length


def _einsum(node: ir.Node, inputs: Shapes, outputs: Shapes) -> int | None:
    equation = node.attributes.get_string("equation", "").replace(" ", "")
    terms = equation.split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, inputs, strict=True):
        if shape is None or "..." in term:
            return None
        sizes.update(zip(term, shape, strict=True))
    return math.prod(sizes.values())


def _attention(node: ir.Node, inputs: Shapes, outputs: Shapes) -> int | None:
    query, key, made = inputs[0], inputs[1], outputs[0]
    if query is None or key is None or made is None:
        return None
    positions = key[-2]
    past = inputs[4] if len(inputs) > 4 and node.inputs[4] is not None else (0, 0)
    if past is None:
        return None
    return (math.prod(query) + math.prod(made)) * (positions + past[-2])


def _recurrent(node: ir.Node, inputs: Shapes, outputs: Shapes) -> int | None:
    data, weight, recurrence = inputs[:3]
    if data is None or weight is None or recurrence is None:
        return None
    return data[0] * data[1] * (math.prod(weight) + math.prod(recurrence))


_COUNTS: dict[Work, Callable[[ir.Node, Shapes, Shapes], int | None]] = {
    Work.NONE: _nothing,
    Work.ELEMENTWISE: _nothing,
    Work.CONVOLUTION: _convolution,
    Work.TRANSPOSED: _transposed,
    Work.MATMUL: _matmul,
    Work.EINSUM: _einsum,
    Work.ATTENTION: _attention,
    Work.RECURRENT: _recurrent,
    Work.UNKNOWN: _uncounted,
}
