"""Which INT8 layers of a graph become one kernel with what follows them, by TensorRT's documented fusions.

The inspector says what an engine really did, where there is a GPU to load it; this says what to expect where there is
none. Rules: TensorRT's "Layer Fusion Catalog" (a convolution with an activation or with a sum that does not broadcast)
and its "Q/DQ Layer-Placement Recommendations": a Quantize behind a layer joins it if nobody reads the floats between
them, and, behind a residual sum, if the other operand of the sum comes from integers too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from linglos_deploy.backends.asked import asked_layers
from linglos_deploy.compat import StrEnum

if TYPE_CHECKING:
    import onnx

    from linglos_deploy.graph.topology import Shape

ACTIVATIONS = frozenset({"Relu", "Gelu", "Clip"})
"""Operators that the catalog fuses behind a convolution."""


class Gives(StrEnum):
    """What the kernel of an INT8 layer writes."""

    INTEGERS = "integers"
    FLOATS = "floats, for layers in floating point"
    FLOATS_TO_ROUND = "floats, which a kernel of its own rounds"


@dataclass(frozen=True, slots=True)
class FusedLayer:
    """An INT8 layer.

    Attributes:
        node: Its name.
        op_type: Its operator.
        depthwise: Whether each of its filters reads one channel.
        gives: What its kernel writes.
        with_it: Nodes that are part of its kernel.
        reason: Why a Quantize behind it stands apart; empty where none does.
    """

    node: str
    op_type: str
    depthwise: bool
    gives: Gives
    with_it: tuple[str, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FusionReport:
    """What the documented fusions make of a graph.

    Attributes:
        graph: Its path.
        layers: Its INT8 layers, in graph order.
        roundings: Quantize nodes of activations.
    """

    graph: str
    layers: tuple[FusedLayer, ...]
    roundings: int

    def count(self, gives: Gives) -> int:
        """Return how many layers give something."""
        return sum(layer.gives is gives for layer in self.layers)

    @property
    def summary(self) -> str:
        """All of it in one sentence."""
        total, fused = len(self.layers), self.count(Gives.INTEGERS)
        share = f", {100 * fused / total:.0f} %" if total else ""
        return (
            f"{fused} of {total} INT8 layers become one kernel with what follows and give integers{share}; "
            f"{self.count(Gives.FLOATS)} give floats to layers in floating point; {self.count(Gives.FLOATS_TO_ROUND)} "
            "give floats that a kernel of its own rounds. By documented fusions; no engine was looked into"
        )

    @property
    def apart(self) -> Mapping[str, int]:
        """Reasons for which a Quantize stands apart, with how many layers have each."""
        return dict(Counter(layer.reason for layer in self.layers if layer.reason).most_common())


def fused_layers(path: Path) -> FusionReport:
    """Say which INT8 layers of a graph fuse with what follows them.

    Raises:
        ArtifactError: The file is no usable ONNX model.
    """
    from linglos_deploy.artifacts import load_onnx

    model = load_onnx(path)
    chain = _Chain.of(model)
    nodes = {node.name or f"node_of_{node.output[0]}": node for node in model.graph.node}
    layers = tuple(chain.follow(nodes[it.node], it.node) for it in asked_layers(model) if it.precision == "int8")
    roundings = sum(node.op_type == "QuantizeLinear" and node.input[0] not in chain.fixed for node in model.graph.node)
    return FusionReport(str(path), layers, roundings)


@dataclass(frozen=True, slots=True)
class _Chain:
    """Who makes and reads each tensor."""

    readers: Mapping[str, Sequence[onnx.NodeProto]]
    makers: Mapping[str, onnx.NodeProto]
    fixed: Mapping[str, onnx.TensorProto]
    shapes: Mapping[str, Shape]
    outputs: frozenset[str]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> _Chain:
        from linglos_deploy.graph.topology import constants, consumers, producers, value_shapes

        graph = model.graph
        outputs = frozenset(value.name for value in graph.output)
        return cls(consumers(graph), producers(graph), constants(graph), value_shapes(model), outputs)

    def follow(self, layer: onnx.NodeProto, name: str) -> FusedLayer:
        """Walk from a layer to where its kernel ends."""
        value, joined, reason = layer.output[0], list[str](), ""
        while True:
            readers = self.readers.get(value, ())
            rounded = [node for node in readers if node.op_type == "QuantizeLinear"]
            if value not in self.outputs and readers and len(rounded) == len(readers):
                gives = Gives.FLOATS_TO_ROUND if reason else Gives.INTEGERS
                break
            if rounded:
                gives = Gives.FLOATS_TO_ROUND
                reason = " and ".join(filter(None, (reason, "it is read in floating point too")))
                break
            if value in self.outputs or len(readers) != 1 or not self._joins(readers[0], value):
                gives, reason = Gives.FLOATS, ""
                break
            (node,) = readers
            if node.op_type == "Add" and not self._rounded_residual(node, value):
                reason = "it is added to floats"
            joined.append(node.name)
            value = node.output[0]
        return FusedLayer(name, layer.op_type, self._depthwise(layer), gives, tuple(joined), reason)

    def _joins(self, node: onnx.NodeProto, value: str) -> bool:
        """Whether a node that reads a layer's result can be part of its kernel."""
        if node.op_type in ACTIVATIONS:
            return bool(node.input[0] == value)
        if node.op_type != "Add":
            return False
        (other,) = [name for name in node.input if name != value] or [value]
        return other in self.fixed or self.shapes.get(other) == self.shapes.get(value) is not None

    def _rounded_residual(self, node: onnx.NodeProto, value: str) -> bool:
        """Whether what is added comes from integers, or is a constant."""
        (other,) = [name for name in node.input if name != value] or [value]
        return other in self.fixed or (other in self.makers and self.makers[other].op_type == "DequantizeLinear")

    def _depthwise(self, layer: onnx.NodeProto) -> bool:
        from linglos_deploy.graph.topology import attribute

        group, weight = attribute(layer, "group"), self.shapes.get(layer.input[1])
        grouped = layer.op_type == "Conv" and group is not None and group.i > 1
        return bool(grouped and weight is not None and weight[1] == 1)
