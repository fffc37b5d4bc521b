"""Which nodes of a 16-bit graph stay in float32, and why: where range or the length of a sum demands it.

    gate     X -> scores -> softmax over positions -> sum    weights of 1/N lie below float16's smallest normal number
    mean     global average pool                             a sum of N terms
    pixels   the normalization of pixels                     0..255 minus an offset, before any weight

LayerNormalization reads and writes 16 bits: the operator's own ``stash_type`` keeps its reduction in float32.
"""

from __future__ import annotations

import onnx

from linglos_deploy.graph.topology import consumers, producers

HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
LAYOUT = frozenset({"Transpose", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity"})
"""Operators that move values and compute nothing: they follow their neighbours."""
_QUANTIZERS = {"QuantizeLinear", "DequantizeLinear"}
_SUMS = {"ReduceMean", "ReduceSum", "GlobalAveragePool", "ReduceSumSquare", "ReduceL2"}


def float32_islands(model: onnx.ModelProto) -> dict[str, str]:
    """Return the nodes that stay in float32, by name, with the reason."""
    graph = model.graph
    makers, readers = producers(graph), consumers(graph)
    islands: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in {"Softmax", "LogSoftmax"}:
            islands[node.name] = "softmax over positions"
            _follow_back(node, makers, islands)
            _follow_forward(node, readers, islands)
        elif node.op_type in _SUMS:
            islands[node.name] = "sum over positions"
    weighted: set[str] = set()
    for node in graph.node:
        if node.op_type in HEAVY or node.op_type in _QUANTIZERS or weighted.intersection(node.input):
            weighted.update(node.output)
        else:
            islands.setdefault(node.name, "before the first weight")
    return islands


def _follow_back(node: onnx.NodeProto, makers: dict[str, onnx.NodeProto], islands: dict[str, str]) -> None:
    """Take in what makes the scores, up to and with the product that computes them."""
    maker = makers.get(node.input[0])
    while maker is not None and maker.op_type in LAYOUT:
        islands[maker.name] = "saliency scores"
        maker = makers.get(maker.input[0])
    if maker is not None and maker.op_type in HEAVY:
        islands[maker.name] = "saliency scores"


def _follow_forward(node: onnx.NodeProto, readers: dict[str, list[onnx.NodeProto]], islands: dict[str, str]) -> None:
    """Take in what the attention weights go through, up to and with the sums over positions."""
    for reader in readers.get(node.output[0], ()):
        if reader.op_type in LAYOUT:
            islands[reader.name] = "attention weights"
            _follow_forward(reader, readers, islands)
        elif reader.op_type in {"MatMul", "Mul"}:
            islands[reader.name] = "sum over positions"
