"""Which nodes of a graph could run in INT8, and which of them must not, told from the structure of the graph alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx_ir as ir

from linglos_deploy.graph.layers import Layer, find_layers
from linglos_deploy.graph.links import constant_array, maker_behind_layout, node_name
from linglos_deploy.graph.metadata import stated_decoding
from linglos_deploy.graph.operators import OutputAxis, operator
from linglos_deploy.graph.passes.running import read_ir
from linglos_deploy.graph.results import moves_to, result_of
from linglos_deploy.graph.saliency import gate_behind, gate_fed_by
from linglos_deploy.tasks.registry import load_task, task_names

NARROWEST = 16
"""Inputs and outputs from which on a matrix product fills the registers of integer dot products: 16 outputs of 32 bits
are a register of AVX-512, and tensor cores multiply blocks of 16."""

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A convolution or linear layer.

    Attributes:
        node: Its name, or that of its output where the file gives it none.
        op_type: Its operator, one whose row in the operator table says that it is a layer.
        output: Its output tensor, which identifies it.
        data: Its data input.
        weight: Its weight input, constant unless the obstacle says otherwise.
        weight_axis: Axis of the weight's output channels.
        dtype: Floating-point type that it computes in; float32 where the file does not say.
        obstacle: Why it cannot run in INT8, or should not; ``None`` if it can.
        possible: Whether it could run in INT8 if somebody insists, whatever the obstacle.
        narrow: Why INT8 cannot make it faster, though it could run in INT8; ``None`` if it can.
        result: The tensor that a convolution leaves behind, see :func:`~linglos_deploy.graph.results.result_of`;
            ``None`` if the graph returns it, or a linear layer makes it.
        becomes: The last tensor that holds the values of ``result`` and no others.
    """

    node: str
    op_type: str
    output: str
    data: str
    weight: str
    weight_axis: int
    dtype: np.dtype
    obstacle: str | None
    possible: bool
    narrow: str | None
    result: str | None
    becomes: str | None

    @property
    def identity(self) -> tuple[str, str]:
        """Output and name: bodies of control flow may use an output's name once more."""
        return self.output, self.node


def find_candidates(model: onnx.ModelProto) -> tuple[Candidate, ...]:
    """Return every convolution and linear layer of a graph, in graph order.

    Those in bodies of If, Loop and Scan are among them, each with the obstacle that says so.
    """
    decoding = stated_decoding(model)
    patterns = load_task(decoding.task).float_layers if decoding is not None and decoding.task in task_names() else ()
    return tuple(_keep_answers(candidate, patterns) for candidate in candidates_of(read_ir(model).graph))


def _keep_answers(candidate: Candidate, patterns: Sequence[str]) -> Candidate:
    """Return a candidate with an obstacle where its numbers are what the task reads: scores, or edges of boxes."""
    if candidate.obstacle is not None or not any(re.fullmatch(pattern, candidate.node) for pattern in patterns):
        return candidate
    return replace(candidate, obstacle="its numbers are the model's answer, which 8 bits would round")


def candidates_of(graph: ir.Graph) -> tuple[Candidate, ...]:
    """Return what :func:`find_candidates` does, of a graph that is read already."""
    return tuple(_candidate(layer) for layer in find_layers(graph))


def _candidate(layer: Layer) -> Candidate:
    impossible = _impossible(layer)
    result = result_of(layer.node) if layer.node.op_type == "Conv" and layer.inside is None else None
    harm = None if layer.inside is not None or not layer.constant else _harm(layer)
    return Candidate(
        node=layer.name,
        op_type=layer.node.op_type,
        output=str(layer.node.outputs[0].name),
        data=str(layer.data.name),
        weight=str(layer.weight.name),
        weight_axis=layer.weight_axis or 0,
        dtype=layer.dtype.numpy(),
        obstacle=harm or impossible,
        possible=impossible is None,
        narrow=_narrow(layer) if impossible is None else None,
        result=None if result is None else str(result.name),
        becomes=None if result is None else str(moves_to(result).name),
    )


def _harm(layer: Layer) -> str | None:
    """Return why a layer should not run in INT8, though it could."""
    if softmax := gate_fed_by(layer.node.outputs[0]):
        return f"saliency gate: '{node_name(softmax)}' turns its output into attention weights, about 1/positions each"
    if softmax := gate_behind(layer.data):
        return f"its input is made of the attention weights of '{node_name(softmax)}', about 1/positions each"
    if factor := _weights_in_product(layer.data):
        return f"its input is a product with the weights '{factor}', not an activation; rounding it would count twice"
    return None


def _impossible(layer: Layer) -> str | None:
    """Return why no INT8 kernel takes a layer."""
    if layer.inside is not None:
        return f"it stands in the body of '{layer.inside}', which calibration does not look into"
    if not layer.constant:
        return "its weight is computed while the model runs, not constant"
    if layer.weight_input == 0:
        return "its constant is the left factor, whose channels no INT8 kernel scales"
    tensor = ir.convenience.get_const_tensor(layer.weight)  # a Constant node's output may state no shape itself
    assert tensor is not None, "the weight is constant"
    rank, dtype = len(tensor.shape), tensor.dtype
    product_of_matrices = operator(layer.node).output_axis is OutputAxis.KEPT
    if rank != 2 if product_of_matrices else rank < 3:
        return f"its weight has {rank} axes, so it is not a plain {layer.node.op_type}"
    if dtype not in _FLOATS:
        return f"its weight is {'unknown' if dtype is None else dtype.name.lower()}, not floating point"
    if layer.node.attributes.get_int("transA", 0) != 0:
        return "it transposes its data, which no INT8 kernel does"
    return None


def _narrow(layer: Layer) -> str | None:
    """Return why a linear layer is not worth rounding: so few inputs or outputs that integers are no faster."""
    if operator(layer.node).output_axis is not OutputAxis.KEPT:
        return None
    weight = ir.convenience.get_const_tensor(layer.weight)
    assert weight is not None, "the weight is constant"
    assert layer.weight_axis is not None, "and its shape known"
    outputs = weight.shape.numpy()[layer.weight_axis]
    inputs = weight.size // max(outputs, 1)
    if min(inputs, outputs) >= NARROWEST:
        return None
    return f"{inputs} x {outputs}, which integers multiply no faster: that takes {NARROWEST} inputs and outputs"


def _weights_in_product(value: ir.Value) -> str | None:
    """Return the matrix of constants in ``value = constants * G``, as in ``M = (Wo diag(G)) Wk``."""
    node = maker_behind_layout(value)
    if node is None or node.op_type != "Mul":
        return None
    for factor in node.inputs:
        values = None if factor is None else constant_array(factor)
        if factor is not None and values is not None and sum(size > 1 for size in values.shape) > 1:
            return str(factor.name)
    return None
