"""Questions that every graph pass asks: who makes this tensor, who reads it, is it constant, what shape has it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
import onnx
from onnx import numpy_helper

from linglos_deploy.signature import Dim

Shape = tuple[Dim | None, ...]
"""One entry per axis: a size, the name of a dynamic one, or ``None`` where inference found nothing."""

_SHAPE_BYTES = 1024


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Return the node that makes each tensor, by tensor name."""
    return {name: node for node in graph.node for name in node.output if name}


def consumers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Return the nodes that read each tensor, in graph order; a node that reads one twice is listed once."""
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            if name:
                readers[name].append(node)
    return dict(readers)


def constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Return all constant tensors by name: initializers, and the values of Constant nodes that hold a tensor."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return found


def constant_array(constants: dict[str, onnx.TensorProto], name: str) -> np.ndarray | None:
    """Return a constant's values, or ``None`` if ``name`` is not constant."""
    tensor = constants.get(name)
    return None if tensor is None else numpy_helper.to_array(tensor)


def attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto | None:
    """Return an attribute of a node, or ``None`` if it is left at its default."""
    return next((found for found in node.attribute if found.name == name), None)


def value_shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """Return the shape of every tensor that the file, or shape inference, knows one for."""
    inferred = _inferred(model, data_prop=True)
    shapes: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        if value.type.tensor_type.HasField("shape"):
            shapes[value.name] = shape_of(value)
    return shapes


def shape_of(value: onnx.ValueInfoProto) -> Shape:
    """Return the shape that a value's type states."""
    return tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else dim.dim_param or None
        for dim in value.type.tensor_type.shape.dim
    )


def value_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element type (``onnx.TensorProto.FLOAT`` ...) of every tensor."""
    inferred = _inferred(model)
    types = {tensor.name: int(tensor.data_type) for tensor in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        types[value.name] = int(value.type.tensor_type.elem_type)
    return types


def _inferred(model: onnx.ModelProto, *, data_prop: bool = False) -> onnx.GraphProto:
    """Run shape inference on a copy without the weights' values, which it would only copy twice."""
    light = onnx.ModelProto()
    light.CopyFrom(model)
    for tensor in light.graph.initializer:
        if len(tensor.raw_data) > _SHAPE_BYTES:  # too long for a shape, which inference does read
            tensor.ClearField("raw_data")
    return onnx.shape_inference.infer_shapes(light, data_prop=data_prop).graph


def every_node(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph and of the graphs inside them, a node before those inside it."""
    for node in graph.node:
        yield node
        for entry in node.attribute:
            for inner in (entry.g, *entry.graphs):
                yield from every_node(inner)


def replace_field(field: object, messages: Iterable[object]) -> None:
    """Replace the contents of a repeated protobuf field; the messages may come from the field itself."""
    copies = []
    for message in messages:
        copy = type(message)()
        copy.CopyFrom(message)  # type: ignore[attr-defined]
        copies.append(copy)
    del field[:]  # type: ignore[attr-defined]
    field.extend(copies)  # type: ignore[attr-defined]
