"""Questions to a graph that ``onnx_ir`` has linked: is it constant, what made it, what does this node carry."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from linglos_deploy.graph.operators import operator


def is_constant(value: ir.Value | None) -> bool:
    """Return whether ``value`` is an initializer or made by a Constant node."""
    return value is not None and ir.convenience.get_const_tensor(value) is not None


def constant_array(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """Return the values of an initializer or Constant node, or ``None`` if ``value`` is computed or left out."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def maker_behind_layout(value: ir.Value | None, *, through: Collection[str] = ()) -> ir.Node | None:
    """Return what makes ``value``, behind changes of layout, of type, and operators named in ``through``."""
    node = None if value is None else value.producer()
    while node is not None and (moves(node) or node.op_type in through):
        source = node.inputs[operator(node).data[0]]
        node = None if source is None else source.producer()
    return node


def moves(node: ir.Node) -> bool:
    """Return whether a node computes nothing: it changes layout, or the type of numbers."""
    return operator(node).layout or node.op_type == "Cast"


def node_name(node: ir.Node) -> str:
    """Return a node's name, or that of its first output where the file gives it none."""
    return str(node.name or node.outputs[0].name)


def subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    """Yield the graphs that a node carries."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()
