"""Saliency gates, told from pairwise attention and from a classifier's softmax by the structure of the graph alone.

    gate       softmax(linear map of X) weighs the positions of X, which are then summed
    pairwise   softmax(Q K^T) weighs the positions of V: its scores are a product of two activations
    head       softmax(linear map of X) is the answer: nothing is summed with it

Names are not used, whoever exported the graph and whatever they called it.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from linglos_deploy.graph.layers import is_activation_product
from linglos_deploy.graph.links import is_constant, maker_behind_layout, moves
from linglos_deploy.graph.operators import Work, operator

_SOFTMAX = frozenset({"Softmax", "Exp"})
"""Makers of weights; ``exp(x - max x)`` is one whose sum is divided by later."""
_REDUCTIONS = frozenset({"ReduceMean", "ReduceSum"})
_SCALING = frozenset({"Add", "Sub", "Mul", "Div"})


def gate_fed_by(value: ir.Value) -> ir.Node | None:
    """Return the softmax of the gate whose scores ``value`` is, through layout, constants and ``x - max x`` only."""
    for reader in value.consumers():
        if reader.op_type in _SOFTMAX:
            if is_gate(reader):
                return reader
        elif (_keeps(reader) or _shifts(reader, value)) and (found := gate_fed_by(reader.outputs[0])):
            return found
    return None


def gate_behind(value: ir.Value) -> ir.Node | None:
    """Return the softmax of the gate whose weights ``value`` is, or that it is a mean weighted by.

    The mean is ``P = sum over n of A[n] X[n]``, whether a product of matrices or a sum of products.
    """
    node = maker_behind_layout(value, through=("Div",))
    if node is None:
        return None
    if node.op_type in _SOFTMAX:
        return node if is_gate(node) else None
    if not (is_activation_product(node) or node.op_type in _REDUCTIONS):
        return None
    for factor in node.inputs:
        maker = maker_behind_layout(factor)
        makers = [maker]
        if maker is not None and maker.op_type == "Mul":
            makers = [maker_behind_layout(part) for part in maker.inputs]
        for each in makers:
            if each is not None and each.op_type in _SOFTMAX and is_gate(each):
                return each
    return None


def is_gate(softmax: ir.Node) -> bool:
    """Return whether a softmax, or an exponential, weighs positions by a linear map of one tensor and sums them."""
    scores = softmax.inputs[0]
    if scores is None or _is_pairwise(scores):
        return False
    return _is_summed_with(softmax.outputs[0], constants=softmax.op_type == "Softmax")


def _is_pairwise(scores: ir.Value) -> bool:
    """Return whether a product of two activations lies behind ``scores`` with no layer between them.

    One layer may lie between that mixes the heads of an attention, and reads the product directly.
    """
    seen: set[ir.Node] = set()
    waiting = [scores]
    while waiting:
        node = waiting.pop().producer()
        if node is None or node in seen:
            continue
        seen.add(node)
        if is_activation_product(node):
            return True
        row = operator(node)
        if row.layer or row.weights:
            maker = maker_behind_layout(node.inputs[row.data[0]])
            if maker is not None and is_activation_product(maker):
                return True
            continue
        inputs = [node.inputs[index] for index in row.data_inputs(len(node.inputs))]
        waiting += [value for value in inputs if value is not None]
    return False


def _is_summed_with(weights: ir.Value, *, constants: bool, multiplied: bool = False) -> bool:
    """Return whether ``weights`` are multiplied by something and summed.

    The sum of the weights alone, as a softmax in pieces divides by, is none.

    Args:
        weights: A softmax's output, or what layout and factors made of it.
        constants: Whether a layer may sum them with its constant weight.
        multiplied: Whether a product of two activations made them.
    """
    for reader in weights.consumers():
        row = operator(reader)
        if is_activation_product(reader) or (row.layer and constants and not multiplied):
            return True
        if reader.op_type in _REDUCTIONS and multiplied:
            return True
        if row.layout or row.op_type in {"Cast", "Div", "Mul"}:
            by_activation = row.op_type == "Mul" and not any(is_constant(value) for value in reader.inputs)
            product = multiplied or by_activation
            if any(_is_summed_with(made, constants=constants, multiplied=product) for made in reader.outputs):
                return True
    return False


def _keeps(node: ir.Node) -> bool:
    """Return whether a node only moves values, and all of them: a layer that makes scores and more is no gate."""
    return moves(node) and not operator(node).selects


def _shifts(node: ir.Node, value: ir.Value) -> bool:
    """Return whether a node adds or multiplies constants, or takes the maximum of ``value`` off it."""
    if node.op_type not in _SCALING or operator(node).work is not Work.ELEMENTWISE:
        return False
    others = list(_others(node, value))
    return all(is_constant(other) for other in others) or (node.op_type == "Sub" and node.inputs[0] is value)


def _others(node: ir.Node, value: ir.Value) -> Iterator[ir.Value]:
    return (each for each in node.inputs if each is not None and each is not value)
