"""Carry a quantization plan out: Q/DQ pairs around convolutions and linear layers, weights stored as INT8.

Before::

    x ------------------> Conv(x, W, b) -> y

After::

    x -> Quantize -> Dequantize -> Conv(., ., b) -> y       scale of x: one number
    W as INT8 ----> Dequantize -----^                       scale of W: one number per output channel

This is the form that TensorRT reads as INT8 under strong typing: symmetric, zero points of 0, scales as initializers,
and nothing behind the convolution, so that bias and activation function fuse into it in floating point and the next
pair's Quantize becomes its output type. A tensor that several nodes read is quantized once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from linglos_deploy.artifacts import OnnxArtifact, Step, load_onnx, open_onnx, tool_versions
from linglos_deploy.codec import to_builtins, to_json
from linglos_deploy.errors import QuantizationError
from linglos_deploy.files import atomic_file, sha256_bytes
from linglos_deploy.graph.topology import constants, remove_dead, replace_field, value_types
from linglos_deploy.quantization.plan import NodeDecision, QuantPlan
from linglos_deploy.quantization.rounding import quantize_weight

_PER_CHANNEL_SINCE = 13
_FLOAT16_SINCE = 19
_SHORT_FLOATS = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
_ZERO_POINT = "quantization/zero_point"


def apply_plan(model: OnnxArtifact, plan: QuantPlan, *, out: Path) -> OnnxArtifact:
    """Write the graph with the plan carried out; the same graph and plan always give the same bytes.

    Args:
        model: The graph that the plan was made for.
        plan: What to do.
        out: Where the new graph goes.

    Raises:
        QuantizationError: The plan belongs to another graph, or the graph's opset has no operators for it.
    """
    if plan.graph_digest != model.digest:
        raise QuantizationError(
            f"The quantization plan belongs to another graph than '{model.path.name}'.",
            found=f"a plan for the graph with SHA-256 {plan.graph_digest[:16]}…",
            expected=f"one for the graph with SHA-256 {model.digest[:16]}…",
            next_step="run 'linglos-deploy quantize' on this graph",
        )
    proto = load_onnx(model.path)
    if plan.quantized_nodes:
        insert_qdq(proto, plan)
    step = Step(
        stage="quantize",
        inputs={"graph": model.digest, "plan": sha256_bytes(to_json(plan).encode())},
        config=to_builtins(plan.scheme),
        tools=tool_versions("linglos-deploy", "onnx", "numpy"),
    )
    with atomic_file(out) as partial:
        partial.write_bytes(proto.SerializeToString(deterministic=True))
    return open_onnx(out, lineage=(*model.lineage, step))


def insert_qdq(model: onnx.ModelProto, plan: QuantPlan) -> None:
    """Edit ``model`` in place as ``plan`` says.

    Raises:
        QuantizationError: A node or tensor of the plan is not there, or the opset has no operators for it.
    """
    decided = {decision.output: decision for decision in plan.quantized_nodes}
    missing = decided.keys() - {node.output[0] for node in model.graph.node if node.output}
    if missing:
        raise QuantizationError(
            f"The graph has no node '{decided[min(missing)].node}' that the quantization plan names.",
            next_step="make the plan again with 'linglos-deploy quantize'",
        )
    edit = _Edit(model)
    _check_opset(model, {edit.types.get(decision.data, 0) for decision in decided.values()})
    pairs = {tensor.tensor: tensor.scale for tensor in plan.quantized_tensors if tensor.scale is not None}
    made: list[onnx.NodeProto] = []
    waiting = dict(pairs)
    for value in model.graph.input:
        if value.name in waiting:
            made += edit.activation_pair(value.name, waiting.pop(value.name))
    for node in model.graph.node:
        decision = decided.get(node.output[0]) if node.output else None
        if decision is not None:
            made += edit.weight_dequantizer(decision, limit=plan.scheme.weight_limit)
            node.input[0] = edit.dequantized[decision.data]
            node.input[1] = edit.dequantized_weights[decision.weight, decision.weight_axis]
        made.append(node)
        for name in node.output:
            if name in waiting:
                made += edit.activation_pair(name, waiting.pop(name))
    replace_field(model.graph.node, made)
    model.graph.initializer.extend(edit.initializers.values())
    remove_dead(model.graph)


@dataclass
class _Edit:
    """Names and tensors that came into being while one graph is edited."""

    model: onnx.ModelProto
    dequantized: dict[str, str] = field(default_factory=dict)
    dequantized_weights: dict[tuple[str, int], str] = field(default_factory=dict)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)
    zero_points: dict[tuple[int, ...], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.model.graph
        self.constants = constants(graph)
        self.types = value_types(self.model)
        self.taken = {name for node in graph.node for name in (node.name, *node.input, *node.output)}
        self.taken.update(tensor.name for tensor in graph.initializer)
        self.taken.update(value.name for value in (*graph.input, *graph.output))

    def activation_pair(self, tensor: str, scale: float) -> Iterable[onnx.NodeProto]:
        """Make the Q/DQ pair of an activation."""
        element = self.types.get(tensor, onnx.TensorProto.FLOAT)
        scale_name = self.initializer(f"{tensor}/scale", np.array(scale, np.float32), element)
        zero = self.zero_point(())
        quantized, result = self.new_name(f"{tensor}/int8"), self.new_name(f"{tensor}/dequantized")
        self.dequantized[tensor] = result
        return (
            helper.make_node(
                "QuantizeLinear", [tensor, scale_name, zero], [quantized], self.new_name(f"{tensor}/QuantizeLinear")
            ),
            helper.make_node(
                "DequantizeLinear", [quantized, scale_name, zero], [result], self.new_name(f"{tensor}/DequantizeLinear")
            ),
        )

    def weight_dequantizer(self, decision: NodeDecision, *, limit: int) -> Iterable[onnx.NodeProto]:
        """Make a weight INT8; return what dequantizes it, nothing if an earlier node had that made."""
        weight, axis = decision.weight, decision.weight_axis
        if (weight, axis) in self.dequantized_weights:
            return ()
        tensor = self.constants[weight]
        integers, scales = quantize_weight(_floats(tensor, decision), axis=axis, limit=limit)
        names = [
            self.initializer(f"{weight}/int8", integers, onnx.TensorProto.INT8),
            self.initializer(f"{weight}/scale", scales, tensor.data_type),
            self.zero_point(scales.shape),
        ]
        result = self.new_name(f"{weight}/dequantized")
        self.dequantized_weights[weight, axis] = result
        name = self.new_name(f"{weight}/DequantizeLinear")
        return (helper.make_node("DequantizeLinear", names, [result], name, axis=axis),)

    def zero_point(self, shape: tuple[int, ...]) -> str:
        """Return an INT8 zero of this shape, shared by all that need one."""
        if shape not in self.zero_points:
            wanted = "/".join([_ZERO_POINT, *map(str, shape)])
            self.zero_points[shape] = self.initializer(wanted, np.zeros(shape), onnx.TensorProto.INT8)
        return self.zero_points[shape]

    def initializer(self, wanted: str, values: np.ndarray, element: int) -> str:
        """Add a constant of the given element type; return its name."""
        name = self.new_name(wanted)
        array = values.astype(helper.tensor_dtype_to_np_dtype(element))
        self.initializers[name] = numpy_helper.from_array(array, name)
        return name

    def new_name(self, wanted: str) -> str:
        """Return ``wanted``, or with the first free number behind it."""
        name, number = wanted, 1
        while name in self.taken:
            number += 1
            name = f"{wanted}_{number}"
        self.taken.add(name)
        return name


def _floats(tensor: onnx.TensorProto, decision: NodeDecision) -> np.ndarray:
    values: np.ndarray = numpy_helper.to_array(tensor).astype(np.float32)
    if not np.isfinite(values).all():
        raise QuantizationError(
            f"The weight '{decision.weight}' holds NaN or infinity.",
            found=f"{np.count_nonzero(~np.isfinite(values))} such values",
            expected="finite weights",
            next_step=f"check the checkpoint, or exclude the node with --nodes-to-exclude '{decision.node}'",
        )
    return values


def _check_opset(model: onnx.ModelProto, elements: set[int]) -> None:
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    needed = _FLOAT16_SINCE if elements.intersection(_SHORT_FLOATS) else _PER_CHANNEL_SINCE
    if opset < needed:
        raise QuantizationError(
            "The graph's opset cannot express this quantization.",
            found=f"opset {opset}",
            expected=f"opset {needed} or later",
            next_step=f"export again with --opset {max(needed, 20)}",
        )
