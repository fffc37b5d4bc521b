"""Q/DQ pairs where a placement wants them, weights stored as INT8.

Before::

    x ------------------> Conv(x, W, b) -> y

After, in front of layers only (TensorRT, OpenVINO)::

    x -> Quantize -> Dequantize -> Conv(., ., b) -> y       scale of x: one number
    W as INT8 ----> Dequantize -----^                       scale of W: one number per output channel

After, for runtimes that store results as integers (ONNX Runtime)::

    x -> Quantize -> Dequantize -> Conv(., ., .) -> Quantize -> Dequantize -> y
    W as INT8 ----> Dequantize -----^     ^
    b as INT32 ---> Dequantize -----------+                 scale of b: those of x and W, multiplied

A tensor that several nodes read is quantized once. Every pair and every weight has zero points of its own: OpenVINO
keeps a layer in floating point without a word where several weights share one initializer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult
from onnx_ir.passes.common import RemoveUnusedNodesPass

from linglos_deploy.errors import QuantizationError
from linglos_deploy.graph.layers import Layer
from linglos_deploy.graph.links import constant_array, node_name
from linglos_deploy.graph.passes.constants import FreeNames, add_constant, free_names
from linglos_deploy.quantization.consistency import check_plan
from linglos_deploy.quantization.placement import DEFAULT, Placement
from linglos_deploy.quantization.placing import PairPlace, bias_of, describe_left, find_places, grid_of
from linglos_deploy.quantization.plan import NodeDecision, QuantPlan, weight_limit
from linglos_deploy.quantization.rounding import (
    quantize_bias,
    quantize_weight,
    scale_type,
    scales_under_bias,
    weight_scales,
)

_PER_CHANNEL_SINCE = 13
_FLOAT16_SINCE = 19
_SHORT_FLOATS = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


class InsertQdq(InPlacePass):
    """Carry out a quantization plan."""

    def __init__(self, plan: QuantPlan, placement: Placement) -> None:
        self._plan = plan
        self._placement = placement
        self.left: tuple[str, ...] = ()
        """Sentences on the layers that the plan has in INT8 and the runtime cannot have; known after the call."""

    def requires(self, model: ir.Model) -> None:
        """Require a plan that fits the graph, and an opset that has the operators.

        Raises:
            QuantizationError: The plan contradicts the graph or itself, or the opset is too old.
        """
        check_plan(self._plan, model.graph)
        if self._plan.quantized_nodes:
            places = find_places(model.graph, self._plan, self._placement)
            types = {layer.data.dtype for layer in places.layers}
            _check_opset(model.graph, types)
            if types.intersection(_SHORT_FLOATS) and not self._placement.narrow:
                raise QuantizationError(
                    f"The placement '{self._placement.name}' is for graphs whose other parts are float32.",
                    found="a graph with parts 16 bits wide",
                    expected="a float32 graph",
                    next_step=f"--target-runtime {DEFAULT}",
                )

    def call(self, model: ir.Model) -> PassResult:
        """Edit ``model``."""
        graph = model.graph
        places = find_places(graph, self._plan, self._placement)
        self.left = describe_left(places)
        edit = _Edit(graph, free_names(graph), self._plan, self._placement)
        decisions = {(decision.output, decision.node): decision for decision in self._plan.quantized_nodes}
        grids = {name: edit.grid(place) for name, place in places.pairs.items()}
        for layer in places.layers:
            decision = decisions[str(layer.node.outputs[0].name), layer.name]
            weight, bias = edit.parameters(layer, decision, grids[str(layer.data.name)].scale)
            layer.node.replace_input_with(layer.weight_input, weight)
            if bias is not None:
                layer.node.replace_input_with(2, bias)
        for name, place in places.pairs.items():
            rounded = edit.activation_pair(place.value, grids[name])
            for reader in place.readers:
                for index, value in enumerate(reader.inputs):
                    if value is place.value:
                        reader.replace_input_with(index, rounded)
        RemoveUnusedNodesPass()(model)  # weights that nothing reads in floating point any more
        return PassResult(model, modified=bool(places.layers))

    def ensures(self, model: ir.Model) -> None:
        """Ensure that every layer that could be had in INT8 reads two dequantized tensors.

        Raises:
            QuantizationError: One does not; then there is a defect here.
        """
        planned = {(decision.output, decision.node): decision.node for decision in self._plan.quantized_nodes}
        for node in model.graph:
            name = planned.get((str(node.outputs[0].name), node_name(node)))
            if name is None or any(sentence.startswith(f"'{name}' ") for sentence in self.left):
                continue
            makers = [value.producer() for value in node.inputs[:2] if value is not None]
            if not all(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers):
                raise QuantizationError(f"'{name}' was planned, but reads floats.")


@dataclass(frozen=True, slots=True)
class _Grid:
    """The steps of a rounded tensor: the distance between two, the integer that stands for zero, and the float type."""

    scale: float
    zero_point: np.integer[Any]
    dtype: ir.DataType


class _Edit:
    """What comes into being while one graph is edited."""

    def __init__(self, graph: ir.Graph, names: FreeNames, plan: QuantPlan, placement: Placement) -> None:
        self.graph = graph
        self.names = names
        self.floating = plan.scheme.floating
        self.placement = placement
        self.first = graph[0]
        self.weights: dict[tuple[ir.Value, int, int, bytes], ir.Value] = {}

    def grid(self, place: PairPlace) -> _Grid:
        """Return the steps of a tensor."""
        scale, zero = grid_of(place.decision, self.placement, scale_type(place.dtype.numpy(), self.floating))
        return _Grid(scale, zero, place.dtype)

    def activation_pair(self, tensor: ir.Value, grid: _Grid) -> ir.Value:
        """Put a Q/DQ pair behind an activation; return what comes out of it."""
        parameters = [
            add_constant(self.graph, self.names(f"{tensor.name}/scale"), np.array(grid.scale, grid.dtype.numpy())),
            add_constant(self.graph, self.names(f"{tensor.name}/zero_point"), np.array(grid.zero_point)),
        ]
        integers = self.placement.integers
        rounded = self.value(f"{tensor.name}/{integers}", ir.DataType.from_numpy(grid.zero_point.dtype), tensor.shape)
        result = self.value(f"{tensor.name}/dequantized", grid.dtype, tensor.shape)
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

    def parameters(self, layer: Layer, decision: NodeDecision, data_scale: float) -> tuple[ir.Value, ir.Value | None]:
        """Make a weight INT8 and, where the placement asks for it, the bias INT32; return both dequantized."""
        weight, axis = layer.weight, layer.weight_axis or 0
        limit = weight_limit(decision.weight_bits)
        values, bias = _finite(weight, decision), bias_of(layer, self.placement)
        scales = weight_scales(values, axis=axis, limit=limit, dtype=scale_type(values.dtype, self.floating))
        if bias is None:
            return self._weight(layer, values, scales, axis, limit), None
        numbers = _finite(bias, decision)
        scales = scales_under_bias(scales, values, numbers, axis=axis, data=data_scale)
        dequantized = self._weight(layer, values, scales, axis, limit)
        steps = (scales.astype(np.float64) * data_scale).astype(np.float32)
        whole = quantize_bias(numbers, steps)
        name = f"{layer.name}/bias"
        return dequantized, self._dequantizer(layer, name, whole, steps.astype(numbers.dtype), 0, bias)

    def _weight(
        self, layer: Layer, values: npt.NDArray[Any], scales: npt.NDArray[np.float32], axis: int, limit: int
    ) -> ir.Value:
        """Return a weight dequantized, as an earlier layer reads it if one does."""
        weight = layer.weight
        key = (weight, axis, limit, scales.tobytes())
        if key not in self.weights:
            integers = quantize_weight(values, scales, axis=axis, limit=limit)
            name = str(weight.name)
            self.weights[key] = self._dequantizer(layer, name, integers, scales.astype(values.dtype), axis, weight)
        return self.weights[key]

    def _dequantizer(
        self,
        layer: Layer,
        name: str,
        integers: npt.NDArray[Any],
        scales: npt.NDArray[Any],
        axis: int,
        like: ir.Value,
    ) -> ir.Value:
        """Put a constant into the graph as integers, with a scale per entry of an axis."""
        kind = integers.dtype
        inputs = [
            add_constant(self.graph, self.names(f"{name}/{kind}"), integers),
            add_constant(self.graph, self.names(f"{name}/scale"), scales),
            add_constant(self.graph, self.names(f"{name}/zero_point"), np.zeros(scales.shape, kind)),
        ]
        result = self.value(f"{name}/dequantized", like.dtype, like.shape)
        attributes = [ir.AttrInt64("axis", axis)]
        node = ir.Node(
            "", "DequantizeLinear", inputs, attributes, outputs=[result], name=self.names(f"{name}/DequantizeLinear")
        )
        self.graph.insert_before(layer.node, [node])
        return result

    def value(self, wanted: str, dtype: ir.DataType | None, shape: ir.Shape | None) -> ir.Value:
        """Return a new value."""
        kind = None if dtype is None else ir.TensorType(dtype)
        return ir.Value(name=self.names(wanted), type=kind, shape=None if shape is None else shape.copy())


def _finite(constant: ir.Value, decision: NodeDecision) -> npt.NDArray[Any]:
    values = constant_array(constant)
    assert values is not None, constant.name
    finite = np.isfinite(values.astype(np.float32))
    if not finite.all():
        raise QuantizationError(
            f"The weight '{constant.name}' holds NaN or infinity.",
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
