"""Gives every node of a float32 graph one of two element types, with as few casts between them as there are borders.

before: x -> Conv -> LayerNormalization -> Softmax                                   all float32
after:  x -> Cast -> Conv -> LayerNormalization -> Cast -> Softmax -> Cast           16 bits but for the island
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult
from onnx_ir.passes.common import InlinePass, LiftConstantsToInitializersPass

from linglos_deploy.errors import ExportError
from linglos_deploy.exporters.element_types import takes_input
from linglos_deploy.exporters.islands import FLOAT, PRODUCTS, QUANTIZERS, is_constant, is_float32
from linglos_deploy.exporters.narrowing import LARGEST, Loss, loss, narrow
from linglos_deploy.graph.operators import operator
from linglos_deploy.graph.passes.constants import FreeNames, free_names

Islands = Callable[[ir.Model, ir.DataType], Mapping[ir.Node, str]]

_STORED_TWICE_BYTES = 4096
"""Up to here a constant that both element types read is stored in both; beyond, once, with a Cast."""
_LIMITING = frozenset({"Clip", "Max", "Min"})


class PlainConstants(InPlacePass):
    """Give every constant and every cast a type of its own, so that types can be changed one by one.

    before: Constant -> c;  CastLike(x, like) -> y
    after:  initializer c;  Cast(x, to=type of like) -> y
    requires: what CastLike takes its type from has one.
    """

    def call(self, model: ir.Model) -> PassResult:
        """Edit the model in place."""
        modified = InlinePass()(model).modified if model.functions else False
        modified |= LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model).modified
        for node in _nodes(model.graph):
            like = node.inputs[1] if node.op_type == "CastLike" else None
            if like is not None and like.dtype is not None:
                node.op_type = "Cast"
                node.resize_inputs(1)
                node.attributes["to"] = ir.AttrInt64("to", int(like.dtype))
                modified = True
        return PassResult(model, modified)


class RetypeFloats(InPlacePass):
    """Narrow all float32 tensors to 16 bits, except those of some nodes.

    before: x -> Conv -> Softmax                               float32; Softmax is to stay so
    after:  x -> Cast -> Conv -> Cast -> Softmax               Conv and its weight in 16 bits
    requires: every tensor has an element type; the nodes to narrow take 16 bits in the graph's opset.
    ensures: each node reads and writes the types that ONNX allows it; inputs and outputs of control flow, of the
        islands and of those that fix their own type are float32; no constant is cast up to
        4 KiB, and no finite number became infinite but in limits and masks.
    """

    def __init__(self, kind: ir.DataType, *, islands: Islands, float32_io: bool = True) -> None:
        """Make the pass.

        Args:
            kind: ``FLOAT16`` or ``BFLOAT16``.
            islands: Finds the nodes that keep computing in float32.
            float32_io: Whether inputs and outputs of the graph keep their element type.
        """
        self.kind = kind
        self.islands = islands
        self.float32_io = float32_io
        self.kept: dict[str, str] = {}
        """After the call: the nodes that stay in float32, by name, each with the reason."""

    def requires(self, model: ir.Model) -> None:
        """Check that every tensor has a type.

        Raises:
            ExportError: One has none: its operator, or one before it, is unknown.
        """
        for node in _nodes(model.graph):
            for output in node.outputs:
                if output.name and output.type is None:
                    raise ExportError(
                        f"The element type of tensor '{output.name}' is not known.",
                        found=f"an output of {node.domain or 'ai.onnx'}::{node.op_type} without a type",
                        expected="standard operators, or types written into the file",
                        next_step="run the graph through onnx.shape_inference, or use --precision fp32",
                    )

    def call(self, model: ir.Model) -> PassResult:
        """Edit the model in place.

        Raises:
            ExportError: A weight does not fit into the element type.
        """
        nodes = list(_nodes(model.graph))
        float32 = self.islands(model, self.kind)
        self.kept = {node.name or str(node.outputs[0].name): reason for node, reason in float32.items()}
        wanted = _assign(nodes, self.kind, float32)
        _Caster(model, nodes, wanted, self.kind).run(float32_io=self.float32_io)
        return PassResult(model, bool(wanted))


def _nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    yield from ir.traversal.RecursiveGraphIterator(graph)


def _assign(nodes: list[ir.Node], kind: ir.DataType, float32: Collection[ir.Node]) -> dict[ir.Node, ir.DataType]:
    """Return the element type that each node computes in, for the nodes whose type is a question."""
    wanted: dict[ir.Node, ir.DataType] = {}
    for node in nodes:
        reads, gives = (sum(is_float32(value) for value in values) for values in (node.inputs, node.outputs))
        sets_type = operator(node).sets_type and node.op_type not in QUANTIZERS
        if node.op_type == "Cast" or (sets_type and reads <= 1 and not gives and node.op_type != "BitCast"):
            continue  # it takes what comes
        if reads or gives:
            wanted[node] = FLOAT if node in float32 or (sets_type and gives) else kind
    for node in reversed(nodes):
        if node in wanted and node not in float32:
            _side_with_neighbours(node, wanted)
    return wanted


def _side_with_neighbours(node: ir.Node, wanted: dict[ir.Node, ir.DataType]) -> None:
    """Let what only moves values side with its readers, else with what it reads; what lies in float32, with both."""
    row = operator(node)
    readers = {wanted.get(use.node) for output in node.outputs for use in output.uses()} - {None}
    makers = [value.producer() for value in node.inputs if is_float32(value) and not is_constant(value)]
    makers_kinds = {wanted.get(maker, FLOAT) if maker is not None else FLOAT for maker in makers}
    if row.layout:
        if len(readers) == 1:
            wanted[node] = next(kind for kind in readers if kind is not None)
        elif makers and makers[0] is not None:
            wanted[node] = wanted.get(makers[0], wanted[node])
    elif row.work not in PRODUCTS and node.op_type not in QUANTIZERS and readers == {FLOAT} and makers_kinds == {FLOAT}:
        wanted[node] = FLOAT


_Read = tuple[ir.Node, int, ir.Value, ir.DataType | None]
"""A node reads, as one of its inputs, a float32 value, in some type; ``None`` if any will do."""


class _Caster:
    """Carries out an assignment: retypes weights, inserts one Cast per tensor and type."""

    def __init__(
        self, model: ir.Model, nodes: list[ir.Node], wanted: dict[ir.Node, ir.DataType], kind: ir.DataType
    ) -> None:
        self.model = model
        self.nodes = nodes
        self.wanted = wanted
        self.kind = kind
        self.opsets = model.opset_imports
        self.free: FreeNames = free_names(model.graph)
        self.floats = {value for node in nodes for value in (*node.inputs, *node.outputs) if is_float32(value)}
        self.copies: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def run(self, *, float32_io: bool) -> None:
        reads: list[_Read] = []
        for node in self.nodes:
            for index, value in enumerate(node.inputs):
                if value is not None and value in self.floats:
                    reads.append((node, index, value, self._takes(node, index)))
        self._retype_constants(reads)
        if not float32_io:
            for value in (*self.model.graph.inputs, *self.model.graph.outputs):
                if is_float32(value) and not value.is_initializer():
                    value.dtype = self.kind
        for node in self.nodes:
            for output in node.outputs:
                if output in self.floats:
                    output.dtype = self._makes(node)
        for node, index, value, kind in reads:
            if kind is not None and value.dtype != kind:
                node.replace_input_with(index, self._as(value, kind))
        for graph in self.model.graphs():
            wide = float32_io or graph is not self.model.graph
            self._restore_outputs(graph, FLOAT if wide else self.kind)

    def _takes(self, node: ir.Node, index: int) -> ir.DataType | None:
        """Return the type that a node reads an input in; ``None`` if any will do."""
        wanted = self.wanted.get(node)
        opset = node.version or self.opsets.get(node.domain, 0)
        if wanted != FLOAT and not takes_input(node, index, self.kind, opset):
            return FLOAT
        return wanted

    def _makes(self, node: ir.Node) -> ir.DataType:
        return self.wanted.get(node, FLOAT)

    def _retype_constants(self, reads: list[_Read]) -> None:
        """Store a constant once, in 16 bits where only those are read; a small one twice where both are."""
        readers: dict[ir.Value, list[tuple[ir.Node, int, ir.DataType]]] = {}
        for node, index, value, kind in reads:
            if (
                value is not None
                and value.is_initializer()
                and not value.is_graph_input()
                and not value.is_graph_output()
            ):
                readers.setdefault(value, []).append((node, index, kind or FLOAT))
        for value, found in readers.items():
            kinds = {kind for _, _, kind in found}
            tensor = value.const_value
            assert tensor is not None
            narrowing = [(node, index) for node, index, kind in found if kind == self.kind]
            if kinds == {self.kind}:
                value.const_value = self._narrow(value, tensor, narrowing)
                value.dtype = self.kind
            elif self.kind in kinds and tensor.nbytes <= _STORED_TWICE_BYTES:
                self._store_twice(value, tensor, narrowing)

    def _store_twice(self, value: ir.Value, tensor: ir.TensorProtocol, readers: list[tuple[ir.Node, int]]) -> None:
        graph = value.graph
        assert graph is not None
        name = self.free(f"{value.name}/{self.kind.name.lower()}")
        copy = ir.Value(
            name=name,
            type=ir.TensorType(self.kind),
            shape=value.shape,
            const_value=self._narrow(value, tensor, readers, name=name),
        )
        graph.register_initializer(copy)
        for node, index in readers:
            node.replace_input_with(index, copy)

    def _narrow(
        self, value: ir.Value, tensor: ir.TensorProtocol, readers: list[tuple[ir.Node, int]], *, name: str | None = None
    ) -> ir.TensorProtocol:
        values = tensor.numpy()
        if loss(values, self.kind) is Loss.HUGE and not all(node.op_type in _LIMITING for node, _ in readers):
            finite = np.abs(values[np.isfinite(values)])
            raise ExportError(
                f"Weight '{value.name}' does not fit into {self.kind.name.lower()}.",
                found=f"values up to {float(finite.max()):.3g}",
                expected=f"finite values of at most {LARGEST[self.kind]:.5g}",
                next_step="use --precision bf16 or fp32",
            )
        return ir.tensor(narrow(values, self.kind), dtype=self.kind, name=name or value.name)

    def _as(self, value: ir.Value, kind: ir.DataType) -> ir.Value:
        """Return ``value`` cast to ``kind``, by a Cast right behind what makes it, which all readers share."""
        found = self.copies.get((value, kind))
        if found is None:
            suffix = "float32" if kind == FLOAT else kind.name.lower()
            found = self.copies[value, kind] = self._cast(value, kind, self.free(f"{value.name}/{suffix}"))
        return found

    def _cast(self, value: ir.Value, kind: ir.DataType, name: str) -> ir.Value:
        node = ir.node("Cast", [value], attributes={"to": int(kind)}, name=self.free(f"{name}/Cast"))
        output = node.outputs[0]
        output.name, output.shape, output.dtype = name, value.shape, kind
        maker, graph = value.producer(), value.graph
        assert graph is not None
        if maker is not None:
            graph.insert_after(maker, node)
        elif len(graph):
            graph.insert_before(graph[0], node)
        else:
            graph.append(node)
        return output

    def _restore_outputs(self, graph: ir.Graph, kind: ir.DataType) -> None:
        """Give each float output of a graph its type back, under its own name."""
        for index, value in enumerate(graph.outputs):
            if value not in self.floats or value.dtype == kind:
                continue
            name, cast = str(value.name), self.copies.get((value, kind))
            if cast is None or not cast.is_graph_output():
                value.name = self.free(f"{name}/{self.kind.name.lower()}")
                if cast is None:
                    cast = self.copies[value, kind] = self._cast(value, kind, name)
                cast.name = name
            graph.outputs[index] = cast
