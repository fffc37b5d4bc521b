"""Gives every node of a float32 graph one of two element types, with as few casts between them as there are borders.

before: x -> Conv -> LayerNormalization -> Softmax                                   all float32
after:  x -> Cast -> Conv -> LayerNormalization -> Cast -> Softmax -> Cast           16 bits but for the island
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.errors import ExportError
from linglos_deploy.exporters.islands import LAYOUT
from linglos_deploy.graph.topology import consumers, producers, replace_field, value_types

FLOAT = TensorProto.FLOAT
_FIXED = {"Cast", "CastLike", "Constant", "Shape", "Size", "ConstantOfShape", "EyeLike", "RandomNormal", "Range"}


def retype(
    model: onnx.ModelProto, element: int, *, float32: Collection[str] = (), float32_io: bool = True
) -> onnx.ModelProto:
    """Return the graph with all float32 tensors in ``element``, except around the named nodes.

    Args:
        model: A graph of standard operators; it is left as it is.
        element: ``TensorProto.FLOAT16`` or ``TensorProto.BFLOAT16``.
        float32: Names of nodes that keep computing in float32.
        float32_io: Whether inputs and outputs keep their element type.

    Raises:
        ExportError: A weight does not fit into the element type.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    types = value_types(result)
    del result.graph.value_info[:]
    graph = result.graph
    if not float32_io:
        _retype_io(graph, element)
    wanted = _assign(graph, types, element, set(float32))
    _Caster(graph, types, wanted, element).run()
    return result


def _retype_io(graph: onnx.GraphProto, element: int) -> None:
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == FLOAT:
            value.type.tensor_type.elem_type = element


def _assign(graph: onnx.GraphProto, types: dict[str, int], element: int, float32: set[str]) -> dict[str, int]:
    """Return the element type that each node computes in, for the nodes that touch float32 at all."""
    readers, makers = consumers(graph), producers(graph)
    wanted: dict[str, int] = {}
    for node in graph.node:
        if node.op_type in _FIXED or not any(types.get(name) == FLOAT for name in (*node.input, *node.output)):
            continue
        wanted[node.name] = FLOAT if node.name in float32 else element
    for node in reversed(graph.node):  # a node that only moves values sides with all its readers ...
        if node.op_type in LAYOUT and node.name in wanted and node.name not in float32:
            sides = {wanted.get(reader.name, element) for reader in readers.get(node.output[0], ())}
            if len(sides) == 1:
                wanted[node.name] = sides.pop()
            elif node.input[0] in makers:  # ... or with what it reads
                wanted[node.name] = wanted.get(makers[node.input[0]].name, element)
    return wanted


class _Caster:
    """Carries out an assignment: retypes weights, inserts one Cast per tensor and type."""

    def __init__(self, graph: onnx.GraphProto, types: dict[str, int], wanted: dict[str, int], element: int) -> None:
        self.graph = graph
        self.element = element
        self.wanted = wanted
        self.floats = {name for name, kind in types.items() if kind == FLOAT}
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.has = {value.name: value.type.tensor_type.elem_type for value in graph.input}
        self.casts: dict[tuple[str, int], str] = {}
        self.nodes: list[onnx.NodeProto] = []

    def run(self) -> None:
        self._retype_weights()
        outputs = {value.name: value.type.tensor_type.elem_type for value in self.graph.output}
        for original in self.graph.node:
            node = onnx.NodeProto()
            node.CopyFrom(original)
            kind = self.wanted.get(node.name)
            if kind is not None:
                node.input[:] = [self._as(name, kind) if name in self.floats else name for name in node.input]
            self.nodes.append(node)
            for index, name in enumerate(node.output):
                made = kind if kind is not None else FLOAT
                if name in self.floats:
                    self.has[name] = made
                if name in outputs and name in self.floats and outputs[name] != made:
                    node.output[index] = f"{name}/{node.op_type}"
                    self.has[node.output[index]] = made
                    self._cast(node.output[index], outputs[name], name)
                    self.has[name] = outputs[name]
        replace_field(self.graph.node, self.nodes)

    def _retype_weights(self) -> None:
        """Store each weight once: in 16 bits where only 16-bit nodes read it."""
        for name, readers in consumers(self.graph).items():
            tensor = self.weights.get(name)
            if tensor is None or tensor.data_type != FLOAT:
                continue
            kinds = {self.wanted.get(reader.name, FLOAT) for reader in readers}
            if kinds == {self.element}:
                tensor.CopyFrom(_narrow(tensor, self.element))
            self.has[name] = tensor.data_type

    def _as(self, name: str, kind: int) -> str:
        if self.has.get(name, FLOAT) == kind:
            return name
        if (name, kind) not in self.casts:
            suffix = "float32" if kind == FLOAT else TensorProto.DataType.Name(kind).lower()
            self._cast(name, kind, f"{name}/{suffix}")
        return self.casts[name, kind]

    def _cast(self, source: str, kind: int, target: str) -> None:
        self.nodes.append(helper.make_node("Cast", [source], [target], name=f"{target}/Cast", to=kind))
        self.casts[source, kind] = target
        self.has[target] = kind


def _narrow(tensor: onnx.TensorProto, element: int) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        narrow = values.astype(helper.tensor_dtype_to_np_dtype(element))
    if not np.isfinite(narrow.astype(np.float32)).all():
        raise ExportError(
            f"Weight '{tensor.name}' does not fit into {TensorProto.DataType.Name(element).lower()}.",
            found=f"values up to {float(np.abs(values).max()):.3g}",
            expected="finite values of at most 65504",
            next_step="use --precision bf16 or fp32",
        )
    return numpy_helper.from_array(narrow, tensor.name)
