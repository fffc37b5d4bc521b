"""Where the pairs of a plan go for one runtime: a graph, a plan and a placement become tensors and their readers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from linglos_deploy.graph.layers import Layer, find_layers
from linglos_deploy.graph.links import constant_array, is_constant
from linglos_deploy.graph.results import readers_of, result_of
from linglos_deploy.quantization.placement import Integers, Placement
from linglos_deploy.quantization.plan import (
    QuantPlan,
    ResultDecision,
    TensorDecision,
    limits_of,
    scale_of,
    weight_limit,
)
from linglos_deploy.quantization.rounding import bias_fits, grid_between, scale_type

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


@dataclass(frozen=True, slots=True)
class PairPlace:
    """A pair.

    Attributes:
        value: The tensor that it rounds.
        decision: Its range.
        readers: The nodes that read the rounded tensor; all of them where it is stored as integers.
        dtype: Its type in floating point, as the layers beside it say where the file does not.
    """

    value: ir.Value
    decision: TensorDecision | ResultDecision
    readers: tuple[ir.Node, ...]
    dtype: ir.DataType

    @property
    def tensor(self) -> str:
        """The name of the tensor."""
        return str(self.value.name)


@dataclass(frozen=True, slots=True)
class Places:
    """What one runtime gets of a plan.

    Attributes:
        layers: The layers that become INT8.
        pairs: The pairs, by the tensor that they round.
        between: Nodes without weights that stand between pairs.
        left: The layers that the plan would have in INT8 and the runtime cannot: name -> why.
    """

    layers: tuple[Layer, ...]
    pairs: Mapping[str, PairPlace]
    between: tuple[ir.Node, ...]
    left: Mapping[str, str]


def find_places(graph: ir.Graph, plan: QuantPlan, placement: Placement) -> Places:
    """Return where the pairs of a plan go.

    A tensor in front of layers is rounded for those that the plan names as its consumers; others read it as it is. A
    result that has to be stored as integers is rounded for all that read it. Operators between them join where that
    rounds nothing more. What is added to a layer's result is rounded where that lets the sum end in integers.

    Args:
        graph: The float graph that the plan was made for.
        plan: What becomes INT8, and within which limits.
        placement: What the runtime wants.
    """
    planned = {(decision.output, decision.node) for decision in plan.quantized_nodes}
    layers = [layer for layer in find_layers(graph) if layer.inside is None and _identity(layer) in planned]
    ranges: dict[str, TensorDecision | ResultDecision] = {it.tensor: it for it in plan.results if it.quantize}
    ranges |= {it.tensor: it for it in plan.quantized_tensors}
    left = {layer.name: why for layer in layers if (why := _why_not(layer, plan, placement, ranges)) is not None}
    layers = [layer for layer in layers if layer.name not in left]
    pairs: dict[str, PairPlace] = {}
    for layer in layers:
        name = str(layer.data.name)
        decision = ranges[name]
        if isinstance(decision, TensorDecision) and layer.name not in decision.consumers:
            continue
        known = pairs[name].readers if name in pairs else ()
        pairs[name] = PairPlace(layer.data, decision, (*known, layer.node), layer.dtype)
    for layer in layers:
        if layer.node.op_type in placement.stores and (result := result_of(layer.node)) is not None:
            name = str(result.name)
            pairs[name] = PairPlace(result, ranges[name], readers_of(result), layer.dtype)
    between = _between(graph, placement, pairs, integer={layer.node for layer in layers})
    for node in between:
        for value in {value.name: value for value in node.inputs if value is not None}.values():
            pair = pairs[str(value.name)]
            readers = tuple(reader for reader in readers_of(value) if reader in pair.readers or reader is node)
            pairs[str(value.name)] = replace(pair, readers=readers)
    if placement.residuals:
        for node, value in _residual_sums(graph, pairs, integer={layer.node for layer in layers}).items():
            pair = pairs[str(value.name)]
            pairs[str(value.name)] = replace(pair, readers=(*pair.readers, node))
    return Places(tuple(layers), pairs, between, left)


def _why_not(
    layer: Layer, plan: QuantPlan, placement: Placement, ranges: Mapping[str, TensorDecision | ResultDecision]
) -> str | None:
    """Return why a runtime cannot have a planned layer in INT8."""
    kind = layer.node.op_type
    if placement.layers is not None and kind not in placement.layers:
        return f"{placement.runtimes[0]} has no integer {kind}"
    if str(layer.data.name) not in ranges:
        return f"its input '{layer.data.name}' stays in floating point"
    if not _bias_fits(layer, plan, placement, ranges):
        return f"its bias is too large to be counted in steps of its sums, as {placement.runtimes[0]} does"
    if kind not in placement.stores:
        return None
    result = result_of(layer.node)
    if result is None:
        return f"{placement.runtimes[0]} would have to round its result, which is an output of the graph"
    if result.name not in ranges:
        kept = next((it.reason for it in plan.results if it.tensor == result.name), "nothing decides about it")
        return f"{placement.runtimes[0]} would have to round '{result.name}', which stays in floating point: {kept}"
    return None


def _bias_fits(
    layer: Layer, plan: QuantPlan, placement: Placement, ranges: Mapping[str, TensorDecision | ResultDecision]
) -> bool:
    bias = bias_of(layer, placement)
    if bias is None:
        return True
    bits = next(it.weight_bits for it in plan.quantized_nodes if (it.output, it.node) == _identity(layer))
    values, weight = constant_array(bias), constant_array(layer.weight)
    assert values is not None, bias.name
    assert weight is not None, layer.name
    scale, _ = grid_of(ranges[str(layer.data.name)], placement, scale_type(layer.dtype.numpy(), plan.scheme.floating))
    return bias_fits(values, weight, axis=layer.weight_axis or 0, limit=weight_limit(bits), data=scale)


def grid_of(
    decision: TensorDecision | ResultDecision, placement: Placement, dtype: DTypeLike
) -> tuple[float, np.integer[Any]]:
    """Return the scale and the zero point of a rounded tensor.

    Args:
        decision: Its range.
        placement: Says which integers.
        dtype: Whose number the scale is.
    """
    if placement.zero_points:
        scale, zero = grid_between(*limits_of(decision), dtype=dtype)
        return scale, np.uint8(zero) if placement.integers is Integers.UINT8 else np.int8(zero - 128)
    assert isinstance(decision, TensorDecision), decision.tensor
    return scale_of(decision, dtype), np.int8(0)


def _identity(layer: Layer) -> tuple[str, str]:
    return str(layer.node.outputs[0].name), layer.name


def _between(
    graph: ir.Graph, placement: Placement, pairs: Mapping[str, PairPlace], *, integer: set[ir.Node]
) -> tuple[ir.Node, ...]:
    """Return the nodes that can join without another rounding: what they read and make is rounded, for all readers."""
    found = [
        node
        for node in graph
        if node.op_type in placement.between
        and not node.domain
        and all(value is not None and str(value.name) in pairs for value in node.inputs)
        and (result := result_of(node)) is not None
        and str(result.name) in pairs
    ]
    while True:  # a sum whose result a float reads makes another sum float
        joined = integer.union(found)
        kept = [node for node in found if _only_read_by(result_of(node), joined, pairs)]
        if len(kept) == len(found):
            return tuple(found)
        found = kept


def _residual_sums(
    graph: ir.Graph, pairs: Mapping[str, PairPlace], *, integer: set[ir.Node]
) -> dict[ir.Node, ir.Value]:
    """Return the sums of a layer's result and a tensor with a pair, each with that tensor.

    Only those whose own result is rounded for everybody who reads it: for layers, and for other such sums.
    """
    found = {node: value for node in graph if (value := _residual_of(node, pairs, integer)) is not None}
    while True:  # a sum that is read in floating point makes its operand's rounding useless, and so on backwards
        kept = {node: value for node, value in found.items() if _ends_rounded(node, found, pairs)}
        if len(kept) == len(found):
            return found
        found = kept


def _residual_of(node: ir.Node, pairs: Mapping[str, PairPlace], integer: set[ir.Node]) -> ir.Value | None:
    """Return what a node adds to the result of an integer layer that nobody else reads, if it has a pair."""
    if node.op_type != "Add" or node.domain or len(node.inputs) != 2:
        return None
    for result, other in (tuple(node.inputs), tuple(reversed(node.inputs))):
        if result is None or other is None or str(other.name) not in pairs or result.producer() not in integer:
            continue
        broadcasts = result.shape is not None and other.shape is not None and result.shape != other.shape
        if readers_of(result) == (node,) and not result.is_graph_output() and result is not other and not broadcasts:
            return other
    return None


def _ends_rounded(node: ir.Node, sums: Mapping[ir.Node, ir.Value], pairs: Mapping[str, PairPlace]) -> bool:
    result = result_of(node)
    if result is None or str(result.name) not in pairs:
        return False
    pair = pairs[str(result.name)]
    return all(reader in pair.readers or sums.get(reader) is result for reader in readers_of(result))


def _only_read_by(value: ir.Value | None, nodes: set[ir.Node], pairs: Mapping[str, PairPlace]) -> bool:
    assert value is not None
    pair = pairs[str(value.name)]
    return all(reader in nodes or reader in pair.readers for reader in readers_of(value))


def bias_of(layer: Layer, placement: Placement) -> ir.Value | None:
    """Return the bias that a placement wants as INT32, ``None`` where there is none, or none that is constant."""
    if layer.node.op_type not in placement.biases or len(layer.node.inputs) < 3:
        return None
    bias = layer.node.inputs[2]
    if bias is None or not is_constant(bias):
        return None
    values = constant_array(bias)
    weight = layer.weight.shape
    channels = None if weight is None or layer.weight_axis is None else weight[layer.weight_axis]
    whole = layer.node.attributes.get_float("beta", 1.0) == 1.0 and layer.node.attributes.get_float("alpha", 1.0) == 1.0
    return bias if whole and values is not None and values.ndim == 1 and values.size == channels else None


def describe_left(places: Places) -> tuple[str, ...]:
    """Return a sentence for each layer that stays in floating point though the plan has it in INT8."""
    return tuple(f"'{name}' stays in floating point: {why}" for name, why in places.left.items())
