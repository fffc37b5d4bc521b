"""Which nodes of a graph could run in INT8, and which of them must not, told from the structure of the graph alone.

Names are not used: a saliency gate is what feeds a softmax, whoever exported it and whatever they called it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from linglos_deploy.graph.topology import attribute, constants, consumers, producers

KINDS = ("Conv", "Gemm", "MatMul")
_LAYOUT = frozenset({"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast"})
_ATTENTION_WEIGHTS = frozenset({"Softmax", "Exp"})
_POOLING = frozenset({"MatMul", "Einsum", "ReduceMean", "ReduceSum"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A convolution or linear layer.

    Attributes:
        node: Its name, or that of its output where the file gives it none.
        op_type: One of :data:`KINDS`.
        output: Its output tensor, which identifies it.
        data: Its data input.
        weight: Its weight input, constant unless the obstacle says otherwise.
        weight_axis: Axis of the weight's output channels.
        obstacle: Why it cannot run in INT8, or must not; ``None`` if it can.
        reads_input: Whether no other candidate comes before it.
        makes_output: Whether no other candidate comes after it.
    """

    node: str
    op_type: str
    output: str
    data: str
    weight: str
    weight_axis: int
    obstacle: str | None
    reads_input: bool
    makes_output: bool


def find_candidates(model: onnx.ModelProto) -> tuple[Candidate, ...]:
    """Return every convolution and linear layer of a graph, in graph order."""
    graph = _Neighbours(model.graph)
    nodes = [node for node in model.graph.node if node.op_type in KINDS and node.domain in ("", "ai.onnx")]
    nodes = [node for node in nodes if not (node.op_type == "MatMul" and _both_computed(node, graph.constants))]
    followed = _outputs_followed_by(model.graph, {node.output[0] for node in nodes})
    return tuple(
        Candidate(
            node=_name(node),
            op_type=node.op_type,
            output=node.output[0],
            data=_operands(node, graph.constants)[0],
            weight=_operands(node, graph.constants)[1],
            weight_axis=weight_axis(node),
            obstacle=_obstacle(node, graph),
            reads_input=not followed.before[node.output[0]],
            makes_output=node.output[0] not in followed.has_later,
        )
        for node in nodes
    )


def weight_axis(node: onnx.NodeProto) -> int:
    """Return which axis of a weight counts output channels: 0 for Conv, columns for MatMul, either for Gemm."""
    if node.op_type == "Conv":
        return 0
    return 0 if node.op_type == "Gemm" and _int_attribute(node, "transB", 0) else 1


class _Neighbours:
    """Who makes, who reads, and what is constant."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.makers = producers(graph)
        self.readers = consumers(graph)
        self.constants = constants(graph)


@dataclass(frozen=True, slots=True)
class _Order:
    before: Mapping[str, bool]
    has_later: frozenset[str]


def _outputs_followed_by(graph: onnx.GraphProto, outputs: set[str]) -> _Order:
    """Tell for each of ``outputs`` whether another one comes before it, and which have another one after them."""
    upstream: dict[str, frozenset[str]] = {}
    before: dict[str, bool] = {}
    has_later: set[str] = set()
    for node in graph.node:
        above = frozenset().union(*(upstream.get(name, frozenset()) for name in node.input))
        if node.output and node.output[0] in outputs:
            before[node.output[0]] = bool(above)
            has_later |= above
            above = frozenset({node.output[0]})  # what lies above it was told of already
        for name in node.output:
            upstream[name] = above
    return _Order(before, frozenset(has_later))


def _both_computed(node: onnx.NodeProto, known: Mapping[str, onnx.TensorProto]) -> bool:
    return not any(name in known for name in node.input)


def _operands(node: onnx.NodeProto, known: Mapping[str, onnx.TensorProto]) -> tuple[str, str]:
    """Return the names of data and weight; a MatMul may have its constant on either side."""
    first, second = node.input[:2]
    return (second, first) if first in known and second not in known else (first, second)


def _obstacle(node: onnx.NodeProto, graph: _Neighbours) -> str | None:
    data, name = _operands(node, graph.constants)
    weight = graph.constants.get(name)
    if weight is None:
        return "its weight is computed while the model runs, not constant"
    if softmax := _attention_weights_after(node.output[0], graph):
        return f"saliency gate: '{softmax}' turns its output into attention weights, about 1/positions each"
    if softmax := _attention_weights_before(data, graph):
        return f"its input is made of the attention weights of '{softmax}', about 1/positions each"
    if factor := _weights_in_product(data, graph):
        return f"its input is a product with the weights '{factor}', not an activation; rounding it would count twice"
    return _odd_form(node, name, weight)


def _odd_form(node: onnx.NodeProto, name: str, weight: onnx.TensorProto) -> str | None:
    if name != node.input[1]:
        return "its constant is the left factor, which has no output channels to scale"
    if len(weight.dims) < 3 if node.op_type == "Conv" else len(weight.dims) != 2:
        return f"its weight has {len(weight.dims)} axes, so it is not a plain {node.op_type}"
    if weight.data_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16):
        return f"its weight is {onnx.TensorProto.DataType.Name(weight.data_type).lower()}, not floating point"
    if node.op_type == "Gemm" and _int_attribute(node, "transA", 0):
        return "it transposes its data, which no INT8 kernel does"
    return None


def _attention_weights_after(tensor: str, graph: _Neighbours) -> str | None:
    """Return the softmax that ``tensor`` reaches through changes of layout only, or through ``exp(x - max x)``."""
    for node in graph.readers.get(tensor, ()):
        if node.op_type in _ATTENTION_WEIGHTS:
            return _name(node)
        if node.op_type in _LAYOUT or (node.op_type == "Sub" and node.input[0] == tensor):
            found = _attention_weights_after(node.output[0], graph)
            if found:
                return found
    return None


def _attention_weights_before(tensor: str, graph: _Neighbours) -> str | None:
    """Return the softmax that ``tensor`` is, or is a weighted mean by: ``P = sum over n of A[n] X[n]``."""
    node = _maker_behind_layout(tensor, graph, through={"Div"})
    if node is None:
        return None
    if node.op_type in _ATTENTION_WEIGHTS:
        return _name(node)
    if node.op_type not in _POOLING:
        return None
    for name in node.input:
        factor = _maker_behind_layout(name, graph)
        makers = [factor]
        if factor is not None and factor.op_type == "Mul":
            makers = [_maker_behind_layout(part, graph) for part in factor.input]
        for maker in makers:
            if maker is not None and maker.op_type in _ATTENTION_WEIGHTS:
                return _name(maker)
    return None


def _weights_in_product(tensor: str, graph: _Neighbours) -> str | None:
    """Return the matrix of constants in ``tensor = constants * G``, as in ``M = (Wo diag(G)) Wk``."""
    node = _maker_behind_layout(tensor, graph)
    if node is None or node.op_type != "Mul":
        return None
    for name in node.input:
        constant = graph.constants.get(name)
        if constant is not None and sum(size > 1 for size in constant.dims) > 1:
            return str(name)
    return None


def _maker_behind_layout(tensor: str, graph: _Neighbours, *, through: set[str] | None = None) -> onnx.NodeProto | None:
    node = graph.makers.get(tensor)
    while node is not None and (node.op_type in _LAYOUT or node.op_type in (through or ())):
        node = graph.makers.get(node.input[0])
    return node


def _name(node: onnx.NodeProto) -> str:
    return str(node.name or node.output[0])


def _int_attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    found = attribute(node, name)
    return default if found is None else int(found.i)
