"""Batch normalization disappears into the layer before it, in float64, on the graph, where the order is visible.

before: y = gamma (layer(x; W, b) - mean) / sqrt(var + eps) + beta
after:  y = layer(x; s W, s (b - mean) + beta),  s = gamma / sqrt(var + eps), along the output channels of W
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from linglos_deploy.graph.links import constant_array
from linglos_deploy.graph.operators import operator
from linglos_deploy.graph.passes.constants import add_constant, free_names

FOLDS_INTO = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Linear maps whose output channels are the channels of a batch norm behind them."""


class FoldBatchNorms(ir.passes.InPlacePass):
    """Folds every batch norm whose input nobody else reads into the Conv, ConvTranspose, Gemm or MatMul that makes it.

    Requires: weights are initializers. Ensures: node names, and those of weights that one layer alone reads, stay.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Fold in place."""
        folded = [node for node in model.graph if node.op_type == "BatchNormalization" and _fold(node, model.graph)]
        if folded:
            model.graph.remove(folded, safe=True)
        return ir.passes.PassResult(model, modified=bool(folded))


def _fold(norm: ir.Node, graph: ir.Graph) -> bool:
    """Change the layer before ``norm`` and hand its readers over; return whether that was possible."""
    between = norm.inputs[0]
    layer = between.producer() if between is not None else None
    if between is None or layer is None or layer.op_type not in FOLDS_INTO or layer.graph is not graph:
        return False
    if len(between.uses()) != 1 or between.is_graph_output() or _attribute(norm, "training_mode", 0):
        return False
    parameters = [constant_array(value) for value in norm.inputs[1:5]]
    weight = layer.inputs[1]
    values = constant_array(weight)
    if values is None or any(parameter is None for parameter in parameters):
        return False
    gamma, beta, mean, variance = (parameter.astype(np.float64) for parameter in parameters if parameter is not None)
    scale = gamma / np.sqrt(variance + _attribute(norm, "epsilon", 1e-5))
    shift = beta - mean * scale
    scaled = _scaled(layer, values.astype(np.float64), scale)
    bias = _bias(layer, len(scale))
    if scaled is None or bias is None:
        return False
    assert weight is not None
    layer.replace_input_with(1, _constant(graph, weight, scaled.astype(values.dtype)))
    result = norm.outputs[0]
    total = (bias * scale + shift).astype(values.dtype)
    if layer.op_type == "MatMul":  # it has no bias: the addition stays
        _add_behind(layer, norm, _named(graph, f"{weight.name}_shift", total))
        return True
    known = layer.inputs[2] if len(layer.inputs) > 2 else None
    name = known.name if known is not None and known.name else _bias_name(weight)
    layer.resize_inputs(3)
    layer.replace_input_with(2, _constant(graph, known, total) if known is not None else _named(graph, name, total))
    if layer.op_type == "Gemm":
        layer.attributes["beta"] = ir.AttrFloat32("beta", 1.0)
    _hand_over(result, between)
    return True


def _scaled(layer: ir.Node, weight: np.ndarray, scale: np.ndarray) -> np.ndarray | None:
    """Return the weight with each output channel scaled; ``None`` if they are not the channels of the norm."""
    if layer.op_type == "ConvTranspose":  # C x K/groups x ...: each group has its own share of the output channels
        groups = int(_attribute(layer, "group", 1))
        if weight.shape[1] * groups != len(scale):
            return None
        parts = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
        along = scale.reshape(groups, 1, weight.shape[1], *[1] * (weight.ndim - 2))
        scaled: np.ndarray = (parts * along).reshape(weight.shape)
        return scaled
    output = layer.outputs[0]
    matrix = layer.op_type in ("Gemm", "MatMul")
    if matrix and (
        weight.ndim != 2 or (layer.op_type == "MatMul" and (output.shape is None or len(output.shape) != 2))
    ):
        return None
    transposed = bool(_attribute(layer, "transB", 0))
    axis = operator(layer.op_type).weight_axis(1, weight.ndim, transposed=transposed)
    if axis is None or weight.shape[axis] != len(scale):
        return None
    along = scale.reshape([-1 if index == axis else 1 for index in range(weight.ndim)])
    product: np.ndarray = weight * along
    return product


def _bias(layer: ir.Node, channels: int) -> np.ndarray | None:
    """Return what the layer adds to each channel; ``None`` if that is not one constant per channel."""
    known = layer.inputs[2] if len(layer.inputs) > 2 else None
    if known is None:
        return np.zeros(channels)
    values = constant_array(known)
    if values is None or values.size not in (1, channels) or (values.ndim > 1 and values.shape[-1] != values.size):
        return None
    factor = _attribute(layer, "beta", 1.0) if layer.op_type == "Gemm" else 1.0
    return np.broadcast_to(values.astype(np.float64).reshape(-1) * factor, channels)


def _hand_over(result: ir.Value, replacement: ir.Value) -> None:
    """Let the readers of ``result`` read ``replacement``, which takes over its place among the graph's outputs."""
    if result.is_graph_output():
        result.name, replacement.name = f"{result.name}_unfolded", result.name
    result.replace_all_uses_with(replacement, replace_graph_outputs=True)


def _add_behind(layer: ir.Node, norm: ir.Node, shift: ir.Value) -> None:
    result = norm.outputs[0]
    between = layer.outputs[0]
    add = ir.node("Add", [between, shift], metadata_props=dict(layer.metadata_props), name=f"{layer.name}_shift")
    add.outputs[0].shape, add.outputs[0].type = result.shape, result.type
    assert norm.graph is not None
    norm.graph.insert_before(norm, add)
    _hand_over(result, add.outputs[0])


def _constant(graph: ir.Graph, known: ir.Value, values: np.ndarray) -> ir.Value:
    """Return an initializer with other values: the known one itself if nobody else reads it."""
    if len(known.uses()) == 1 and not known.is_graph_output():
        known.const_value = ir.tensor(values, name=known.name)
        known.shape = ir.Shape(values.shape)
        return known
    return _named(graph, f"{known.name}_folded", values)


def _named(graph: ir.Graph, name: str, values: np.ndarray) -> ir.Value:
    return add_constant(graph, free_names(graph)(name), values)


def _bias_name(weight: ir.Value) -> str:
    return f"{(weight.name or '').rpartition('.')[0]}.bias".lstrip(".")


def _attribute(node: ir.Node, name: str, default: float) -> float:
    found = node.attributes.get(name)
    return default if found is None else float(found.value)
