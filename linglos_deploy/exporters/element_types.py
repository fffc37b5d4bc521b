"""Which inputs and outputs of a node may be 16 bits wide, by ONNX's own operator definitions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import onnx
import onnx_ir as ir

from linglos_deploy.graph.operators import operator

_NAMES = {
    ir.DataType.FLOAT: "tensor(float)",
    ir.DataType.FLOAT16: "tensor(float16)",
    ir.DataType.BFLOAT16: "tensor(bfloat16)",
}


@dataclass(frozen=True, slots=True)
class Slots:
    """Where an operator of one opset takes an element type, and where it does not.

    Attributes:
        inputs: One entry a formal input; the last one stands for all others of a variadic input.
        outputs: The same of outputs.
    """

    inputs: tuple[bool, ...]
    outputs: tuple[bool, ...]


def takes_input(node: ir.Node, index: int, kind: ir.DataType, opset: int) -> bool:
    """Return whether input ``index`` of a node may be of the element type ``kind`` in that opset."""
    slots = _slots(node.op_type, node.domain, opset, kind)
    return slots is not None and index not in operator(node).float32_inputs and _at(slots.inputs, index)


def gives_output(node: ir.Node, index: int, kind: ir.DataType, opset: int) -> bool:
    """Return whether output ``index`` of a node may be of the element type ``kind`` in that opset."""
    slots = _slots(node.op_type, node.domain, opset, kind)
    return slots is not None and _at(slots.outputs, index)


def _at(slots: tuple[bool, ...], index: int) -> bool:
    return bool(slots) and slots[min(index, len(slots) - 1)]


@cache
def _slots(op_type: str, domain: str, opset: int, kind: ir.DataType) -> Slots | None:
    """Return ``None`` for an operator that ONNX does not define."""
    try:
        schema = onnx.defs.get_schema(op_type, opset, "" if domain == "ai.onnx" else domain)
    except onnx.defs.SchemaError:
        return None
    name = _NAMES[kind]
    return Slots(
        tuple(name in formal.types for formal in schema.inputs),
        tuple(name in formal.types for formal in schema.outputs),
    )
