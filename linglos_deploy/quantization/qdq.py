"""Q/DQ pairs around convolutions and linear layers, weights stored as INT8.

Before::

    x ------------------> Conv(x, W, b) -> y

After::

    x -> Quantize -> Dequantize -> Conv(., ., b) -> y       scale of x: one number
    W as INT8 ----> Dequantize -----^                       scale of W: one number per output channel

This is the form that TensorRT reads as INT8 under strong typing: symmetric, zero points of 0, scales as initializers,
and nothing behind the convolution, so that bias and activation function fuse into it in floating point and the next
pair's Quantize becomes its output type. A tensor that several nodes read is quantized once.

Every pair and every weight has zero points of its own: OpenVINO keeps a layer in floating point without a word where
several weights share one initializer.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult
from onnx_ir.passes.common import RemoveUnusedNodesPass

from linglos_deploy.errors import QuantizationError
from linglos_deploy.graph.layers import Layer, find_layers
from linglos_deploy.graph.links import constant_array
from linglos_deploy.graph.passes.constants import FreeNames, add_constant, free_names
from linglos_deploy.quantization.consistency import check_plan
from linglos_deploy.quantization.plan import NodeDecision, QuantPlan, TensorDecision, scale_of, weight_limit
from linglos_deploy.quantization.rounding import quantize_weight, scale_type

_PER_CHANNEL_SINCE = 13
_FLOAT16_SINCE = 19
_SHORT_FLOATS = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


class InsertQdq(InPlacePass):
    """Carry out a quantization plan."""

    def __init__(self, plan: QuantPlan) -> None:
        self._plan = plan

    def requires(self, model: ir.Model) -> None:
        """Require a plan that fits the graph, and an opset that has the operators.

        Raises:
            QuantizationError: The plan contradicts the graph or itself, or the opset is too old.
        """
        check_plan(self._plan, model.graph)
        if self._plan.quantized_nodes:
            _check_opset(model.graph, {layer.data.dtype for layer in _planned(model.graph, self._plan)})

    def call(self, model: ir.Model) -> PassResult:
        """Edit ``model``."""
        graph, layers = model.graph, _planned(model.graph, self._plan)
        edit = _Edit(graph, free_names(graph), self._plan)
        readers = {str(layer.data.name): layer for layer in layers}
        pairs = {
            decision.tensor: edit.activation_pair(readers[decision.tensor], decision)
            for decision in self._plan.quantized_tensors
        }
        decisions = {decision.output: decision for decision in self._plan.quantized_nodes}
        for layer in layers:
            weight = edit.weight_dequantizer(layer, decisions[str(layer.node.outputs[0].name)])
            name = str(layer.data.name)
            layer.node.replace_input_with(layer.weight_input, weight)
            layer.node.replace_input_with(layer.data_input, pairs[name])
        RemoveUnusedNodesPass()(model)  # weights that nothing reads in floating point any more
        return PassResult(model, modified=bool(layers))

    def ensures(self, model: ir.Model) -> None:
        """Ensure that every planned layer reads two dequantized tensors.

        Raises:
            QuantizationError: One does not; then there is a defect here.
        """
        planned = {decision.output: decision.node for decision in self._plan.quantized_nodes}
        for node in model.graph:
            if node.outputs[0].name in planned:
                makers = [value.producer() for value in node.inputs[:2] if value is not None]
                if not all(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers):
                    raise QuantizationError(f"'{planned[str(node.outputs[0].name)]}' was planned, but reads floats.")


def _planned(graph: ir.Graph, plan: QuantPlan) -> tuple[Layer, ...]:
    planned = {decision.output for decision in plan.quantized_nodes}
    return tuple(
        layer for layer in find_layers(graph) if layer.inside is None and layer.node.outputs[0].name in planned
    )


class _Edit:
    """What comes into being while one graph is edited."""

    def __init__(self, graph: ir.Graph, names: FreeNames, plan: QuantPlan) -> None:
        self.graph = graph
        self.names = names
        self.floating = plan.scheme.floating
        self.first = graph[0]
        self.weights: dict[tuple[ir.Value, int | None, int], ir.Value] = {}

    def activation_pair(self, reader: Layer, decision: TensorDecision) -> ir.Value:
        """Put a Q/DQ pair behind the activation that a layer reads; return what comes out of it."""
        tensor, dtype = reader.data, reader.dtype
        scale = scale_of(decision, scale_type(dtype.numpy(), self.floating))
        parameters = [
            add_constant(self.graph, self.names(f"{tensor.name}/scale"), np.array(scale, dtype.numpy())),
            add_constant(self.graph, self.names(f"{tensor.name}/zero_point"), np.array(0, np.int8)),
        ]
        rounded = self.value(f"{tensor.name}/int8", ir.DataType.INT8, tensor.shape)
        result = self.value(f"{tensor.name}/dequantized", dtype, tensor.shape)
        pair = [
            ir.Node("", kind, [source, *parameters], outputs=[made], name=self.names(f"{tensor.name}/{kind}"))
            for kind, source, made in (("QuantizeLinear", tensor, rounded), ("DequantizeLinear", rounded, result))
        ]
        maker = tensor.producer()
        if maker is None:
            self.graph.insert_before(self.first, pair)
        else:
            self.graph.insert_after(maker, pair)
        return result

    def weight_dequantizer(self, layer: Layer, decision: NodeDecision) -> ir.Value:
        """Make a weight INT8; return it dequantized, as an earlier layer reads it if one does."""
        weight, axis = layer.weight, layer.weight_axis
        limit = weight_limit(decision.weight_bits)
        if (weight, axis, limit) not in self.weights:
            values = _finite(weight, decision)
            scales_as = scale_type(values.dtype, self.floating)
            integers, scales = quantize_weight(values, axis=axis or 0, limit=limit, dtype=scales_as)
            inputs = [
                add_constant(self.graph, self.names(f"{weight.name}/int8"), integers),
                add_constant(self.graph, self.names(f"{weight.name}/scale"), scales.astype(values.dtype)),
                add_constant(self.graph, self.names(f"{weight.name}/zero_point"), np.zeros(scales.shape, np.int8)),
            ]
            result = self.value(f"{weight.name}/dequantized", weight.dtype, weight.shape)
            name = self.names(f"{weight.name}/DequantizeLinear")
            attributes = [ir.AttrInt64("axis", axis or 0)]
            node = ir.Node("", "DequantizeLinear", inputs, attributes, outputs=[result], name=name)
            self.graph.insert_before(layer.node, [node])
            self.weights[weight, axis, limit] = result
        return self.weights[weight, axis, limit]

    def value(self, wanted: str, dtype: ir.DataType | None, shape: ir.Shape | None) -> ir.Value:
        """Return a new value."""
        kind = None if dtype is None else ir.TensorType(dtype)
        return ir.Value(name=self.names(wanted), type=kind, shape=None if shape is None else shape.copy())


def _finite(weight: ir.Value, decision: NodeDecision) -> np.ndarray:
    values = constant_array(weight)
    assert values is not None, decision.weight
    finite = np.isfinite(values.astype(np.float32))
    if not finite.all():
        raise QuantizationError(
            f"The weight '{decision.weight}' holds NaN or infinity.",
            found=f"{np.count_nonzero(~finite)} such values",
            expected="finite weights",
            next_step=f"check the checkpoint, or exclude the node with --nodes-to-exclude '{decision.node}'",
        )
    return values


def _check_opset(graph: ir.Graph, elements: set[ir.DataType | None]) -> None:
    opset = graph.opset_imports.get("", 0)
    needed = _FLOAT16_SINCE if elements.intersection(_SHORT_FLOATS) else _PER_CHANNEL_SINCE
    if opset < needed:
        raise QuantizationError(
            "The graph's opset cannot express this quantization.",
            found=f"opset {opset}",
            expected=f"opset {needed} or later",
            next_step=f"export again with --opset {max(needed, 20)}",
        )
