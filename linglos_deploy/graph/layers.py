"""The layers of a graph: what multiplies activations by a weight, wherever it stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from linglos_deploy.graph.links import is_constant, node_name, subgraphs
from linglos_deploy.graph.operators import operator

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_TRANSPOSED = {0: "transA", 1: "transB"}


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution or linear layer.

    Attributes:
        node: The node.
        data_input: Which of its inputs is the activation.
        weight_input: Which one is the weight.
        constant: Whether the weight is constant.
        weight_axis: Axis of the weight's output channels; ``None`` if it has none, or its rank is not known.
        inside: Name of the If, Loop or Scan in whose body it stands; ``None`` in the graph itself.
    """

    node: ir.Node
    data_input: int
    weight_input: int
    constant: bool
    weight_axis: int | None
    inside: str | None

    @property
    def data(self) -> ir.Value:
        """The activation."""
        return _given(self.node, self.data_input)

    @property
    def weight(self) -> ir.Value:
        """The weight."""
        return _given(self.node, self.weight_input)

    @property
    def dtype(self) -> ir.DataType:
        """Floating-point type that it computes in; float32 where the file does not say."""
        told = (value.dtype for value in (self.data, self.weight))
        return next((dtype for dtype in told if dtype in _FLOATS), ir.DataType.FLOAT)

    @property
    def name(self) -> str:
        """Name of the node."""
        return node_name(self.node)


def find_layers(graph: ir.Graph) -> tuple[Layer, ...]:
    """Return every layer in graph order, those in bodies of If, Loop and Scan behind the node that carries the body.

    What multiplies two constants is no layer, nor what multiplies two activations and could take a weight on either
    side.
    """
    found = (_layer(node, inside) for node, inside in _nodes(graph, None))
    return tuple(layer for layer in found if layer is not None)


def is_activation_product(node: ir.Node) -> bool:
    """Return whether a node multiplies two activations with each other, summing over an axis."""
    row = operator(node)
    if row.op_type == "Einsum":
        return sum(not is_constant(value) for value in node.inputs) > 1
    return len(row.weights) > 1 and row.layer and not any(is_constant(node.inputs[index]) for index in row.weights)


def _nodes(graph: ir.Graph, inside: str | None) -> Iterator[tuple[ir.Node, str | None]]:
    for node in graph:
        yield node, inside
        for body in subgraphs(node):
            yield from _nodes(body, inside or node_name(node))


def _layer(node: ir.Node, inside: str | None) -> Layer | None:
    row = operator(node)
    if not row.layer:
        return None
    constant = [index for index in row.weights if is_constant(node.inputs[index])]
    if len(row.weights) > 1 and len(constant) != 1:
        return None
    weight = constant[0] if constant else row.weights[0]
    data = next((index for index in row.data if index != weight), row.data[0])
    if is_constant(node.inputs[data]):
        return None
    shape = _shape(_given(node, weight))
    transposed = node.attributes.get_int(_TRANSPOSED.get(weight, ""), 0) != 0
    axis = None if shape is None else row.weight_axis(weight, len(shape), transposed=transposed)
    return Layer(node, data, weight, bool(constant), axis, inside)


def _shape(weight: ir.Value) -> ir.Shape | ir.ShapeProtocol | None:
    """Return the shape of a weight; that of what a Constant node makes stands in its tensor only."""
    tensor = ir.convenience.get_const_tensor(weight) if weight.shape is None else None
    return weight.shape if tensor is None else tensor.shape


def _given(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None, f"{node_name(node)} has no input {index}"
    return value
