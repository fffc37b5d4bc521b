"""Proof before measurement: a derived graph must be its float32 parent, but for what its precision allows.

    int8        x -> Quantize -> Dequantize -> Conv(., Dequantize(W as INT8), b)    is    x -> Conv(., W, b)
    with biases                                Conv(., ., Dequantize(b as INT32))   is    Conv(., W, b)
    16 bits     x -> Cast -> Conv(., W16, b16) -> Cast                              is    x -> Conv(., W, b)

Both graphs are walked from their outputs to their inputs at the same time. Pairs, dequantized weights and casts of the
candidate are looked through; everything else (operators, attributes, wiring, constants) must be the same, to the bit.
What was looked through is then held against the arithmetic (:mod:`linglos_deploy.parity.pairs`) and the quantization
plan (:mod:`linglos_deploy.parity.planned`). Names of nodes tell apart what is alike otherwise; a graph whose nodes were
all renamed is proven too. Nothing runs here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from linglos_deploy.choices import Precision
from linglos_deploy.graph.opset import opset_of, to_opset
from linglos_deploy.parity.biases import Bias, bias_differences
from linglos_deploy.parity.constants import rounded_alike, show_gap
from linglos_deploy.parity.nodes import (
    Array,
    ComparedGraph,
    alike,
    cast_target,
    constant_of,
    name_of,
    show_attribute,
    show_inputs,
    show_origin,
    show_type,
)
from linglos_deploy.parity.pairs import Pair, Weight, pair_differences, weight_differences
from linglos_deploy.parity.planned import Rounding, plan_differences
from linglos_deploy.quantization.placement import DEFAULT, Placement, find_placement
from linglos_deploy.quantization.placing import find_places
from linglos_deploy.quantization.plan import QuantPlan
from linglos_deploy.reports.parity import StructuralDifference, StructuralProof

_TYPES = ("to", "dtype")
"""Attributes that name the element type a node makes."""
_ELEMENTS = {Precision.FP16: ir.DataType.FLOAT16, Precision.BF16: ir.DataType.BFLOAT16}


def prove(
    parent: onnx.ModelProto,
    candidate: onnx.ModelProto,
    precision: Precision,
    *,
    plan: QuantPlan | None = None,
    placement: Placement | None = None,
    names: tuple[str, str] = ("parent", "candidate"),
) -> StructuralProof:
    """Compare a derived graph with the float32 graph that it was made from.

    Args:
        parent: The float32 graph.
        candidate: The INT8 or 16-bit graph, or both.
        precision: What the candidate is said to be.
        plan: What was decided; without it scales are held against the arithmetic only.
        placement: Where its pairs must stand, and of which integers; as every runtime reads them if ``None``.
        names: What the report calls both.
    """
    placement = placement or find_placement(DEFAULT)
    differences = [*_language_differences(parent, candidate)]
    if opset_of(parent) < opset_of(candidate):
        parent = to_opset(parent, opset_of(candidate))
    element = _ELEMENTS.get(precision.floating)
    compared = ComparedGraph.of(parent), ComparedGraph.of(candidate)
    walk = _Walk(*compared, element, int8=precision.is_int8, placement=placement)
    walk.run()
    differences += walk.differences
    if plan is not None and precision.is_int8:
        rounding = Rounding(walk.pairs, walk.weights, walk.biases, walk.matched, element)
        places = find_places(walk.parent.graph, plan, placement)
        differences += plan_differences(rounding, plan, placement, places)
    order = {node.name: index for index, node in enumerate(candidate.graph.node)}
    differences = sorted(dict.fromkeys(differences), key=lambda found: order.get(found.node, -1))
    return StructuralProof(
        parent=names[0],
        candidate=names[1],
        nodes=len(walk.matched),
        constants=walk.constants,
        weights=len(walk.weights),
        pairs=len({pair.tensor for pair in walk.pairs}),
        against_plan=plan is not None and precision.is_int8,
        differences=tuple(differences),
    )


def _language_differences(parent: onnx.ModelProto, candidate: onnx.ModelProto) -> Iterator[StructuralDifference]:
    """Compare what the words of both graphs mean: the opsets, and the functions that a file brings with it.

    A 16-bit graph may need a later opset than its parent; the parent is then read in that one.
    """
    if opset_of(candidate) < opset_of(parent):
        yield StructuralDifference("", "", "opset", f"at least {opset_of(parent)}", str(opset_of(candidate)))
    mine, theirs = ({entry.domain: entry.version for entry in model.opset_import} for model in (parent, candidate))
    for domain in sorted((mine.keys() & theirs.keys()) - {"", "ai.onnx"}):
        if mine[domain] != theirs[domain]:
            yield StructuralDifference("", "", f"opset of '{domain}'", str(mine[domain]), str(theirs[domain]))
    functions = [
        {
            (made.domain, made.name, made.overload): made.SerializeToString(deterministic=True)
            for made in model.functions
        }
        for model in (parent, candidate)
    ]
    for key in sorted(functions[1].keys() | functions[0].keys()):
        if functions[0].get(key) != functions[1].get(key):
            found = "another one" if key in functions[1] else "none"
            yield StructuralDifference("", "", f"function '{key[1]}' of the file", "the parent's", found)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a value of the candidate really comes from."""

    value: ir.Value
    pair: tuple[ir.Node, ir.Node] | None = None
    dequantizer: ir.Node | None = None


@dataclass
class _Walk:
    """Both graphs at the same time, from outputs to inputs."""

    parent: ComparedGraph
    candidate: ComparedGraph
    element: ir.DataType | None
    int8: bool
    placement: Placement
    matched: dict[str, str] = field(default_factory=dict)
    layers: dict[str, str] = field(default_factory=dict)
    constants: int = 0
    pairs: list[Pair] = field(default_factory=list)
    weights: list[Weight] = field(default_factory=list)
    biases: list[Weight] = field(default_factory=list)
    differences: list[StructuralDifference] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.namesakes = {name_of(node): node for node in self.candidate.graph}
        self.parents = {name_of(node) for node in self.parent.graph}
        self.partners: dict[int, ir.Node] = {}
        self.bound: dict[int, ir.Value] = {}
        self.known: dict[tuple[str, str], Weight] = {}

    def run(self) -> None:
        """Compare everything that the outputs depend on."""
        waiting: list[tuple[ir.Value, ir.Value, str]] = []
        self._check_interface("input", self.parent.graph.inputs, self.candidate.graph.inputs)
        self._check_interface("output", self.parent.graph.outputs, self.candidate.graph.outputs)
        waiting.extend(
            (mine, theirs, name_of(theirs.producer()))
            for mine, theirs in zip(self.parent.graph.outputs, self.candidate.graph.outputs, strict=False)
        )
        seen: set[tuple[int, int]] = set()
        while waiting:
            mine, theirs, reader = waiting.pop()
            mine = self._behind_casts(mine)
            source = self._source(theirs, reader)
            if source is None:
                continue
            if source.pair is not None:
                self._take_pair(mine, *source.pair, reader)
            if source.dequantizer is not None:
                self._take_weight(mine, source.dequantizer, reader)
                continue
            key = (id(mine), id(source.value))
            if key in seen:
                continue
            seen.add(key)
            waiting.extend(self._compare(mine, source.value, reader))

    def differ(self, node: str, what: str, *, expected: str, found: str, layer: str | None = None) -> None:
        """Note a difference at a node of the candidate; ``layer`` is the parent's node, if it has another name."""
        self.differences.append(StructuralDifference(node, layer or node, what, expected, found))

    def back(self, reader: str) -> str:
        """Return the parent's name of a node of the candidate."""
        return self.layers.get(reader, reader)

    def _take_pair(self, mine: ir.Value, quantizer: ir.Node, dequantizer: ir.Node, reader: str) -> None:
        pair = Pair.read(str(mine.name), quantizer, dequantizer, reader=reader, layer=self.back(reader))
        self.differences.extend(pair_differences(pair, self.placement))
        if pair.scale is not None:
            self.pairs.append(pair)

    def _take_weight(self, mine: ir.Value, dequantizer: ir.Node, reader: str) -> None:
        key, layer = (str(mine.name), name_of(dequantizer)), self.back(reader)
        if key in self.known:  # another reader of the same weight
            self.weights.append(self.known[key].read_by(reader, layer))
            return
        weight = Weight.read(mine, dequantizer, reader=reader, layer=layer)
        if weight.integers is not None and weight.integers.dtype == np.int32:
            bias = Bias.read(weight, self.namesakes.get(reader), dequantizer.outputs[0])
            self.differences.extend(bias_differences(bias, self.placement))
            self.biases.append(weight)
            return
        self.differences.extend(weight_differences(weight, self.element))
        self.known[key] = weight
        if weight.fits:
            self.weights.append(weight)

    def _check_interface(self, what: str, mine: Sequence[ir.Value], theirs: Sequence[ir.Value]) -> None:
        for left, right in zip(mine, theirs, strict=False):
            kinds = {left.dtype, self.element} if self.element is not None else {left.dtype}
            if left.name != right.name or right.dtype not in kinds or str(left.shape) != str(right.shape):
                self.differ(str(right.name), f"{what} of the graph", expected=show_type(left), found=show_type(right))
        if len(mine) != len(theirs):
            self.differ("", f"{what}s of the graph", expected=str(len(mine)), found=str(len(theirs)))

    def _behind_casts(self, value: ir.Value) -> ir.Value:
        """Return what a value was before casts that a 16-bit graph may place where it likes."""
        if self.element is None:
            return value
        floats = (ir.DataType.FLOAT, self.element)
        while (maker := value.producer()) is not None and maker.op_type == "Cast" and cast_target(maker) in floats:
            assert maker.inputs[0] is not None
            value = maker.inputs[0]
        return value

    def _source(self, value: ir.Value, reader: str) -> _Source | None:
        """Look through casts, a Q/DQ pair and the dequantizer of a weight; ``None`` where a difference was found."""
        value = self._behind_casts(value)
        maker = value.producer()
        if not self.int8 or maker is None or maker.op_type != "DequantizeLinear":
            return _Source(value)
        integers = maker.inputs[0]
        assert integers is not None
        if constant_of(integers) is not None:
            return _Source(value, dequantizer=maker)
        quantizer = integers.producer()
        if quantizer is None or quantizer.op_type != "QuantizeLinear":
            self.differ(
                name_of(maker),
                "DequantizeLinear without a QuantizeLinear",
                expected="a pair, or a constant",
                found=f"integers from '{name_of(quantizer)}'",
            )
            return None
        assert quantizer.inputs[0] is not None
        behind = self._behind_casts(quantizer.inputs[0])
        again = behind.producer()
        if again is not None and again.op_type == "DequantizeLinear":
            self.differ(
                name_of(quantizer),
                f"what '{reader}' reads is rounded twice",
                expected="one pair",
                found="two pairs",
                layer=self.back(reader),
            )
            return None
        return _Source(behind, pair=(quantizer, maker))

    def _compare(self, mine: ir.Value, theirs: ir.Value, reader: str) -> Iterator[tuple[ir.Value, ir.Value, str]]:
        wanted, found = constant_of(mine), constant_of(theirs)
        if wanted is not None or found is not None:
            self._check_constant(mine, wanted, theirs, found, reader)
            return
        maker, other = mine.producer(), theirs.producer()
        if maker is None or other is None:
            if maker is not other or not self._same_input(mine, theirs):
                self.differ(reader, "reads another tensor", expected=show_origin(mine), found=show_origin(theirs))
            return
        namesake = self.namesakes.get(name_of(maker))
        if not alike(maker, other) or mine.index() != theirs.index() or self._strangers(maker, other):
            self.differ(
                name_of(other),
                f"what '{reader}' reads is made by another node",
                expected=show_origin(mine),
                found=show_origin(theirs),
                layer=name_of(maker),
            )
            if namesake is not None and namesake is not other and alike(maker, namesake):
                yield mine, namesake.outputs[mine.index() or 0], reader  # go on where both meet again
            return
        self.matched.setdefault(name_of(maker), name_of(other))
        self.layers.setdefault(name_of(other), name_of(maker))
        if self.partners.setdefault(id(maker), other) is not other:
            self.differ(reader, "reads another tensor", expected=show_origin(mine), found=show_origin(theirs))
            return
        yield from self._check_attributes(maker, other)
        if len(maker.inputs) != len(other.inputs):
            self.differ(name_of(other), "number of inputs", expected=show_inputs(maker), found=show_inputs(other))
        for left, right in zip(maker.inputs, other.inputs, strict=False):
            if left is not None and right is not None:
                yield left, right, name_of(other)
            elif left is not right:
                self.differ(name_of(other), "optional input", expected=show_origin(left), found=show_origin(right))

    def _strangers(self, maker: ir.Node, other: ir.Node) -> bool:
        """Whether a name tells that two nodes of one operator are not each other's, in graphs that kept their names."""
        namesake = self.namesakes.get(name_of(maker))
        return namesake is not other and (namesake is not None or name_of(other) in self.parents)

    def _check_attributes(self, maker: ir.Node, other: ir.Node) -> Iterator[tuple[ir.Value, ir.Value, str]]:
        mine, theirs = self.parent.attributes(maker), self.candidate.attributes(other)
        for name in sorted(mine.keys() | theirs.keys()):
            left, right = mine.get(name), theirs.get(name)
            if isinstance(left, ir.Graph) and isinstance(right, ir.Graph):
                yield from self._bodies(name, left, right, name_of(other))
            elif not self._same_attribute(name, left, right):
                what = f"attribute '{name}' of {other.op_type}"
                self.differ(name_of(other), what, expected=show_attribute(left), found=show_attribute(right))

    def _bodies(
        self, name: str, left: ir.Graph, right: ir.Graph, reader: str
    ) -> Iterator[tuple[ir.Value, ir.Value, str]]:
        """Go on inside the body of a loop or a branch; what it reads from outside is walked like any other tensor."""
        counts = [(len(body.inputs), len(body.outputs)) for body in (left, right)]
        if counts[0] != counts[1]:
            self.differ(reader, f"inputs and outputs of '{name}'", expected=str(counts[0]), found=str(counts[1]))
            return
        for mine, theirs in zip(left.inputs, right.inputs, strict=True):
            self.bound[id(theirs)] = mine
        for mine, theirs in zip(left.outputs, right.outputs, strict=True):
            yield mine, theirs, reader

    def _same_input(self, mine: ir.Value, theirs: ir.Value) -> bool:
        """Whether two values that no node makes are one input: of the graphs by name, of two bodies by their place."""
        bound = self.bound.get(id(theirs))
        return mine.name == theirs.name if bound is None else bound is mine

    def _same_attribute(self, name: str, left: Any, right: Any) -> bool:
        if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
            return rounded_alike(left, right, self.element)
        if self.element is not None and name in _TYPES and (left, right) == (ir.DataType.FLOAT, self.element):
            return True
        return bool(left == right)

    def _check_constant(
        self,
        mine: ir.Value,
        wanted: Array | None,
        theirs: ir.Value,
        found: Array | None,
        reader: str,
    ) -> None:
        if wanted is None or found is None:
            self.differ(reader, "reads a constant or not", expected=show_origin(mine), found=show_origin(theirs))
            return
        self.constants += 1
        if not rounded_alike(wanted, found, self.element):
            found_now = show_gap(wanted, found)
            self.differ(reader, f"constant '{theirs.name}'", expected="the parent's values", found=found_now)
