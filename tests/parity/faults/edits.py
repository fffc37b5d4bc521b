"""What the faults are made of: small edits of an ONNX graph, in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    for found in model.graph.node:
        if found.name == name:
            return found
    raise LookupError(name)


def nodes(model: onnx.ModelProto, op_type: str) -> list[onnx.NodeProto]:
    return [found for found in model.graph.node if found.op_type == op_type]


def constant(model: onnx.ModelProto, name: str) -> np.ndarray:
    return np.array(numpy_helper.to_array(_initializer(model, name)))


def change(model: onnx.ModelProto, name: str, function: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace an initializer by a function of it, of the same element type."""
    tensor = _initializer(model, name)
    values = np.array(numpy_helper.to_array(tensor))
    with np.errstate(all="ignore"):
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(function(values)).astype(values.dtype), name))


def own(model: onnx.ModelProto, reader: onnx.NodeProto, index: int) -> str:
    """Give a node a copy of a constant that others read too; return its name."""
    name = reader.input[index]
    copy = onnx.TensorProto()
    copy.CopyFrom(_initializer(model, name))
    copy.name = f"{reader.name}/own{index}"
    model.graph.initializer.append(copy)
    reader.input[index] = copy.name
    return copy.name


def add_constant(model: onnx.ModelProto, name: str, values: np.ndarray, *, like: str | None = None) -> str:
    """Add an initializer, of the element type of another one if that is named."""
    dtype = constant(model, like).dtype if like else values.dtype
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(values).astype(dtype), name))
    return name


def set_attribute(found: onnx.NodeProto, name: str, value: object) -> None:
    kept = [attribute for attribute in found.attribute if attribute.name != name]
    del found.attribute[:]
    found.attribute.extend([*kept, helper.make_attribute(name, value)])


def rewire(model: onnx.ModelProto, old: str, new: str, *, keep: Sequence[str] = ()) -> None:
    """Let all readers of a tensor read another one, except the nodes named in ``keep``."""
    for reader in model.graph.node:
        if reader.name not in keep:
            reader.input[:] = [new if name == old else name for name in reader.input]


def insert_after(model: onnx.ModelProto, maker: onnx.NodeProto, made: Sequence[onnx.NodeProto]) -> None:
    place = [found.name for found in model.graph.node].index(maker.name) + 1
    _replace(model, [*model.graph.node[:place], *made, *model.graph.node[place:]])


def insert_before(model: onnx.ModelProto, reader: onnx.NodeProto, made: Sequence[onnx.NodeProto]) -> None:
    place = [found.name for found in model.graph.node].index(reader.name)
    _replace(model, [*model.graph.node[:place], *made, *model.graph.node[place:]])


def drop(model: onnx.ModelProto, name: str) -> None:
    _replace(model, [found for found in model.graph.node if found.name != name])


def tap(model: onnx.ModelProto, tensor: str, make: Callable[[str, str], Sequence[onnx.NodeProto]]) -> None:
    """Put nodes between a tensor and all who read it; ``make(before, after)`` makes them."""
    maker = next(found for found in model.graph.node if tensor in found.output)
    before = f"{tensor}/before"
    maker.output[:] = [before if name == tensor else name for name in maker.output]
    for value in model.graph.value_info:
        if value.name == tensor:
            value.name = before
    insert_after(model, maker, make(before, tensor))


def tap_input(model: onnx.ModelProto, make: Callable[[str, str], Sequence[onnx.NodeProto]]) -> None:
    """Put nodes between the image and all who read it."""
    name = model.graph.input[0].name
    after = f"{name}/after"
    rewire(model, name, after)
    _replace(model, [*make(name, after), *model.graph.node])


def flip_bit(values: np.ndarray, index: int, bit: int) -> np.ndarray:
    """Flip a bit of one number: 31 is float32's sign, 30 to 23 its exponent; narrower types count from their top."""
    width = values.dtype.itemsize * 8
    flat = np.ascontiguousarray(values).reshape(-1).copy()
    integers = flat.view(f"u{values.dtype.itemsize}")
    integers[index] ^= np.array(1 << (bit if width == 32 else bit - 32 + width), integers.dtype)
    return flat.reshape(values.shape)


def element_type(model: onnx.ModelProto, tensor: str) -> int:
    inferred = onnx.shape_inference.infer_shapes(model)
    for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        if value.name == tensor:
            return int(value.type.tensor_type.elem_type)
    return int(TensorProto.FLOAT)


def _initializer(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            return tensor
    raise LookupError(name)


def _replace(model: onnx.ModelProto, made: Sequence[onnx.NodeProto]) -> None:
    copies = []
    for found in made:
        copy = onnx.NodeProto()
        copy.CopyFrom(found)
        copies.append(copy)
    del model.graph.node[:]
    model.graph.node.extend(copies)
