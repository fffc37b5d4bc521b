"""Which tensors a quantization plan could need: what convolutions and linear layers read as data."""

from __future__ import annotations

import onnx

from linglos_deploy.graph.topology import constants, value_types

_WITH_WEIGHT = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def quantizable_activations(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the float32 data inputs of Conv, ConvTranspose, Gemm and MatMul nodes that have a constant weight.

    Each tensor is named once, in the order of its first reader. A graph input is among them where a layer reads it.
    """
    fixed = constants(model.graph)
    types = value_types(model)
    names: dict[str, None] = {}
    for node in model.graph.node:
        if node.op_type not in _WITH_WEIGHT or node.domain not in ("", "ai.onnx"):
            continue
        first, second = node.input[:2]
        if second in fixed and first not in fixed:
            names[first] = None
        elif node.op_type == "MatMul" and first in fixed and second not in fixed:
            names[second] = None
    return tuple(name for name in names if types.get(name) == onnx.TensorProto.FLOAT)
