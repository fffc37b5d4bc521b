"""Nodes and values of a graph, in a form that can be compared with those of another one and shown to a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class ComparedGraph:
    """A graph with use-def chains, and what its operators' attributes default to."""

    graph: ir.Graph
    opsets: Mapping[str, int]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> ComparedGraph:
        """Read a model."""
        read = ir.from_proto(model)
        return cls(read.graph, dict(read.opset_imports))

    def attributes(self, node: ir.Node) -> dict[str, Any]:
        """Return all attributes of a node, with the defaults of those that the file leaves out."""
        found: dict[str, Any] = {}
        try:
            version = self.opsets.get(node.domain, self.opsets.get("ai.onnx" if not node.domain else "", 1))
            schema = onnx.defs.get_schema(node.op_type, version, node.domain)
            for name, formal in schema.attributes.items():
                if formal.default_value.type != onnx.AttributeProto.UNDEFINED:
                    found[name] = _plain(ir.serde.deserialize_attribute(formal.default_value).value)
        except onnx.defs.SchemaError:
            pass  # an operator that this version of ONNX does not know has no defaults to fill in
        for name, attribute in node.attributes.items():
            found[name] = _plain(attribute.value)
        return found


def alike(first: ir.Node, second: ir.Node) -> bool:
    """Whether two nodes have one operator."""
    return (first.domain, first.op_type) == (second.domain, second.op_type)


def name_of(node: ir.Node | None) -> str:
    """Return what a report calls a node; ``None`` makes the graph's inputs."""
    if node is None:
        return "the graph's input"
    return str(node.name or (node.outputs[0].name if node.outputs else node.op_type))


def constant_of(value: ir.Value) -> Array | None:
    """Return the values of an initializer or of a Constant node."""
    maker = value.producer()
    if maker is None:
        tensor = value.const_value
        return None if tensor is None else np.asarray(tensor.numpy())
    if maker.op_type == "Constant" and not maker.domain:
        held = next(iter(maker.attributes.values())).value
        return _plain(held) if isinstance(_plain(held), np.ndarray) else np.asarray(held)
    return None


def numbers_of(value: ir.Value | None) -> Array | None:
    """Return the values of a constant that may have been cast, such as a scale that two element types share."""
    if value is None:
        return None
    maker = value.producer()
    if maker is not None and maker.op_type == "Cast":
        found = numbers_of(maker.inputs[0])
        return None if found is None else found.astype(cast_target(maker).numpy())
    return constant_of(value)


def cast_target(node: ir.Node) -> ir.DataType:
    """Return the element type that a Cast makes."""
    return ir.DataType(node.attributes["to"].as_int())


def operators_of(graph: ir.Graph) -> list[str]:
    """Return the operators of a body, casts left out."""
    return sorted(node.op_type for node in graph if node.op_type != "Cast")


def show_origin(value: ir.Value | None) -> str:
    """Return where a value comes from, in words."""
    if value is None:
        return "nothing"
    if constant_of(value) is not None:
        return f"the constant '{value.name}'"
    maker = value.producer()
    return f"the input '{value.name}'" if maker is None else f"{maker.op_type} '{name_of(maker)}'"


def show_inputs(node: ir.Node) -> str:
    """Return how many inputs a node has, and where they come from."""
    return f"{len(node.inputs)} ({', '.join(show_origin(value) for value in node.inputs)})"


def show_attribute(value: object) -> str:
    """Return an attribute's value in a few words."""
    if isinstance(value, ir.Graph):
        return f"a body of {len(value)} nodes"
    return "nothing" if value is None else str(value)[:80]


def show_type(value: ir.Value) -> str:
    """Return name, element type and shape."""
    return f"{value.name}: {value.dtype} {value.shape}"


def _plain(value: Any) -> Any:
    """Return an attribute's value in a form that can be compared."""
    if isinstance(value, ir.TensorProtocol):
        return np.asarray(value.numpy())
    if isinstance(value, list | tuple):
        return tuple(value)
    return value
