"""In which precision a graph asks each of its convolutions and matrix products to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from linglos_deploy.graph.operators import operator
from linglos_deploy.graph.topology import attribute, constants, producers

if TYPE_CHECKING:
    import onnx

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators whose precision decides speed and accuracy."""

_NAMES = {1: "float32", 10: "float16", 16: "bfloat16", 2: "int8", 3: "int8", 17: "fp8", 18: "fp8", 19: "fp8", 20: "fp8"}
"""onnx.TensorProto.DataType -> our names; unsigned bytes between Quantize and Dequantize are 8-bit integers, too."""


@dataclass(frozen=True, slots=True)
class AskedLayer:
    """What a graph asks of one node.

    Attributes:
        node: Its name; as the parser calls it where the graph has none.
        op_type: Its operator.
        precision: ``int8``, ``fp8``, ``float16``, ``bfloat16`` or ``float32``; empty if the graph does not say.
        operands: How many of its two operands are activations.
    """

    node: str
    op_type: str
    precision: str
    operands: int


def asked_layers(model: onnx.ModelProto) -> tuple[AskedLayer, ...]:
    """Return every convolution and matrix product of a graph with the precision that it asks for.

    A product is to run in INT8 if both of its operands come out of DequantizeLinear nodes of 8-bit integers, perhaps
    moved on the way; any other one in the type of its operands.
    """
    graph = model.graph
    fixed, makers = constants(graph), producers(graph)
    sources = _Sources(fixed, makers, _types_of(model))
    return tuple(
        AskedLayer(
            node=node.name or f"node_of_{node.output[0]}",
            op_type=node.op_type,
            precision=sources.precision(node),
            operands=sum(not sources.is_constant(name) for name in node.input[:2]),
        )
        for node in graph.node
        if node.op_type in PRODUCTS
    )


@dataclass(frozen=True, slots=True)
class _Sources:
    """Where the operands of a product come from."""

    constants: dict[str, onnx.TensorProto]
    producers: dict[str, onnx.NodeProto]
    types: Callable[[str], int]

    def precision(self, node: onnx.NodeProto) -> str:
        kinds = {self._quantized_type(name) for name in node.input[:2]}
        if len(kinds) == 1 and (kind := kinds.pop()):
            return kind
        types = [self._float_type(name) for name in node.input[:2]]
        return next((name for name in reversed(types) if name), "")

    def is_constant(self, name: str) -> bool:
        origin = self._origin(name)
        maker = self.producers.get(origin)
        if maker is not None and maker.op_type == "DequantizeLinear":
            return self.is_constant(maker.input[0])
        return origin in self.constants

    def _origin(self, name: str) -> str:
        """Go back over nodes that only move values."""
        while (maker := self.producers.get(name)) is not None and operator(maker.op_type).layout:
            name = maker.input[0]
        return name

    def _quantized_type(self, name: str) -> str:
        """Return the type between Quantize and Dequantize behind an operand; empty if there is no such pair."""
        maker = self.producers.get(self._origin(name))
        if maker is None or maker.op_type != "DequantizeLinear":
            return ""
        data = self._origin(maker.input[0])
        if data in self.constants:
            return _eight_bits(self.constants[data].data_type)
        quantize = self.producers.get(data)
        if quantize is None or quantize.op_type != "QuantizeLinear":
            return ""
        if len(quantize.input) > 2 and quantize.input[2] in self.constants:
            return _eight_bits(self.constants[quantize.input[2]].data_type)
        wanted = attribute(quantize, "output_dtype")
        return "int8" if wanted is None or not wanted.i else _eight_bits(wanted.i)

    def _float_type(self, name: str) -> str:
        maker = self.producers.get(self._origin(name))
        if maker is not None and maker.op_type == "DequantizeLinear":
            return _floating(self.types(maker.input[1]))
        return _floating(self.types(name))


def _eight_bits(data_type: int) -> str:
    name = _NAMES.get(data_type, "")
    return name if name in {"int8", "fp8"} else ""


def _floating(data_type: int) -> str:
    name = _NAMES.get(data_type, "")
    return name if name in {"float32", "float16", "bfloat16"} else ""


def _types_of(model: onnx.ModelProto) -> Callable[[str], int]:
    """Return a function from tensors to their element types; inference runs only when it must."""
    import onnx

    known = {tensor.name: tensor.data_type for tensor in constants(model.graph).values()}
    known |= {name: tensor.data_type for name, tensor in constants(model.graph).items()}
    known |= {value.name: value.type.tensor_type.elem_type for value in model.graph.input}

    @cache
    def inferred() -> dict[str, int]:
        graph = onnx.shape_inference.infer_shapes(model).graph
        return {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}

    return lambda name: known[name] if name in known else inferred().get(name, 0)
