"""Which precision a graph has, told from the graph."""

from __future__ import annotations

import onnx

from linglos_deploy.choices import Precision

_NARROW = {onnx.TensorProto.FLOAT16: Precision.FP16, onnx.TensorProto.BFLOAT16: Precision.BF16}
_HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_INTEGER = frozenset({"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "QGemm"})


def precision_of_graph(model: onnx.ModelProto) -> Precision:
    """Return the precision of a graph: whether heavy operators read dequantized integers, and what its floats are.

    A graph counts as 16-bit when one of its weights, or a type that it casts to, is.
    """
    kinds = {_NARROW[tensor.data_type] for tensor in model.graph.initializer if tensor.data_type in _NARROW}
    for node in model.graph.node:
        if node.op_type == "Cast":
            kinds.update(_NARROW[entry.i] for entry in node.attribute if entry.name == "to" and entry.i in _NARROW)
    if _is_int8(model.graph):
        return Precision.INT8_FP16 if Precision.FP16 in kinds else Precision.INT8
    if Precision.BF16 in kinds:
        return Precision.BF16
    return Precision.FP16 if kinds else Precision.FP32


def _is_int8(graph: onnx.GraphProto) -> bool:
    dequantized = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    return any(
        node.op_type in _INTEGER or (node.op_type in _HEAVY and dequantized.intersection(node.input))
        for node in graph.node
    )
