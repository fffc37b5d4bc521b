"""Proof before measurement: a derived graph must be its float32 parent, but for what its precision allows.

    int8        x -> Quantize -> Dequantize -> Conv(., Dequantize(W as INT8), b)    is    x -> Conv(., W, b)
    16 bits     x -> Cast -> Conv(., W16, b16) -> Cast                              is    x -> Conv(., W, b)

Both graphs are walked from their outputs to their inputs at the same time. Pairs, dequantized weights and casts of the
candidate are looked through; everything else (operators, attributes, wiring, constants) must be the same, to the bit.
What was looked through is then held against the arithmetic and the quantization plan: both halves of a pair have one
scale, a weight lies within half a step of its integer, scales are no larger than the weights ask for, and every scale,
bit width, bound and consumer is the one that the plan names. Names of nodes tell apart what is alike otherwise; a graph
whose nodes were all renamed is proven too. Nothing runs here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from linglos_deploy.choices import Precision
from linglos_deploy.quantization.plan import QuantPlan, TensorDecision
from linglos_deploy.reports.parity import StructuralDifference, StructuralProof

ACTIVATION_LIMIT = 127
_ELEMENTS = {Precision.FP16: ir.DataType.FLOAT16, Precision.BF16: ir.DataType.BFLOAT16}
_HALF_STEP = 0.5 + 1e-4
"""Distance of a weight from its integer, in steps; the division that found the integer is rounded too."""
_SCALE_SLACK = 2.0**-9
"""How much larger a scale may be than its bound asks for: scales are rounded up to what float16 holds."""
_SMALLEST_HALF = 2.0**-24
_SMALLEST_NORMAL = 2.0**-126

Floats = npt.NDArray[np.float64]


def prove(
    parent: onnx.ModelProto,
    candidate: onnx.ModelProto,
    precision: Precision,
    *,
    plan: QuantPlan | None = None,
    names: tuple[str, str] = ("parent", "candidate"),
) -> StructuralProof:
    """Compare a derived graph with the float32 graph that it was made from.

    Args:
        parent: The float32 graph.
        candidate: The INT8 or 16-bit graph, or both.
        precision: What the candidate is said to be.
        plan: What was decided; without it scales are held against the arithmetic only.
        names: What the report calls both.
    """
    walk = _Walk(_Graph.of(parent), _Graph.of(candidate), _ELEMENTS.get(precision.floating), int8=precision.is_int8)
    walk.run()
    if plan is not None and precision.is_int8:
        _check_plan(walk, plan)
    order = {node.name: index for index, node in enumerate(candidate.graph.node)}
    differences = sorted(dict.fromkeys(walk.differences), key=lambda found: order.get(found.node, -1))
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


@dataclass(frozen=True, slots=True)
class _Graph:
    """A graph with use-def chains, and what its operators' attributes default to."""

    graph: ir.Graph
    opsets: Mapping[str, int]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> _Graph:
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


@dataclass(frozen=True, slots=True)
class _Pair:
    """A Q/DQ pair of the candidate: which tensor of the parent it rounds, and for which reader."""

    tensor: str
    scale: float
    quantizer: str
    reader: str


@dataclass(frozen=True, slots=True)
class _Weight:
    """A weight that the candidate dequantizes: the parent's name, axis and largest integer."""

    weight: str
    axis: int
    largest: int
    dequantizer: str
    reader: str


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a value of the candidate really comes from."""

    value: ir.Value
    pair: tuple[ir.Node, ir.Node] | None = None
    dequantizer: ir.Node | None = None


@dataclass
class _Walk:
    """Both graphs at the same time, from outputs to inputs."""

    parent: _Graph
    candidate: _Graph
    element: ir.DataType | None
    int8: bool
    matched: dict[str, str] = field(default_factory=dict)
    constants: int = 0
    pairs: list[_Pair] = field(default_factory=list)
    weights: list[_Weight] = field(default_factory=list)
    differences: list[StructuralDifference] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.namesakes = {_name(node): node for node in self.candidate.graph}
        self.parents = {_name(node) for node in self.parent.graph}

    def run(self) -> None:
        """Compare everything that the outputs depend on."""
        waiting: list[tuple[ir.Value, ir.Value, str]] = []
        self._check_interface("input", self.parent.graph.inputs, self.candidate.graph.inputs)
        self._check_interface("output", self.parent.graph.outputs, self.candidate.graph.outputs)
        waiting.extend(
            (mine, theirs, _name(theirs.producer()))
            for mine, theirs in zip(self.parent.graph.outputs, self.candidate.graph.outputs, strict=False)
        )
        seen: set[tuple[int, int, str]] = set()
        while waiting:
            mine, theirs, reader = waiting.pop()
            mine = self._behind_casts(mine)
            source = self._source(theirs, reader)
            if source is None:
                continue
            if source.pair is not None:
                self._check_pair(mine, source.pair, reader)
            if source.dequantizer is not None:
                self._check_weight(mine, source.dequantizer, reader)
                continue
            key = (id(mine), id(source.value), "")
            if key in seen:
                continue
            seen.add(key)
            waiting.extend(self._compare(mine, source.value, reader))

    def differ(self, node: str, what: str, *, expected: str, found: str, layer: str | None = None) -> None:
        """Note a difference at a node of the candidate; ``layer`` is the parent's node, if it has another name."""
        self.differences.append(StructuralDifference(node, layer or node, what, expected, found))

    @property
    def smallest_step(self) -> float:
        """The distance of the smallest scales that the candidate's floating point holds."""
        return _SMALLEST_HALF if self.element is ir.DataType.FLOAT16 else _SMALLEST_NORMAL

    def back(self, reader: str) -> str:
        """Return the parent's name of a node of the candidate."""
        return next((mine for mine, theirs in self.matched.items() if theirs == reader), reader)

    def _check_interface(self, what: str, mine: Sequence[ir.Value], theirs: Sequence[ir.Value]) -> None:
        for left, right in zip(mine, theirs, strict=False):
            kinds = {left.dtype, self.element} if self.element is not None else {left.dtype}
            if left.name != right.name or right.dtype not in kinds or str(left.shape) != str(right.shape):
                self.differ(str(right.name), f"{what} of the graph", expected=_typed(left), found=_typed(right))
        if len(mine) != len(theirs):
            self.differ("", f"{what}s of the graph", expected=str(len(mine)), found=str(len(theirs)))

    def _behind_casts(self, value: ir.Value) -> ir.Value:
        """Return what a value was before casts that a 16-bit graph may place where it likes."""
        if self.element is None:
            return value
        while (
            (maker := value.producer()) is not None
            and maker.op_type == "Cast"
            and _cast_to(maker)
            in (
                ir.DataType.FLOAT,
                self.element,
            )
        ):
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
        if _constant(integers) is not None:
            return _Source(value, dequantizer=maker)
        quantizer = integers.producer()
        if quantizer is None or quantizer.op_type != "QuantizeLinear":
            self.differ(
                _name(maker),
                "DequantizeLinear without a QuantizeLinear",
                expected="a pair, or a constant",
                found=f"integers from '{_name(quantizer)}'",
            )
            return None
        assert quantizer.inputs[0] is not None
        behind = self._behind_casts(quantizer.inputs[0])
        again = behind.producer()
        if again is not None and again.op_type == "DequantizeLinear":
            self.differ(
                _name(quantizer),
                f"what '{reader}' reads is rounded twice",
                expected="one pair",
                found="two pairs",
                layer=self.back(reader),
            )
            return None
        return _Source(behind, pair=(quantizer, maker))

    def _compare(self, mine: ir.Value, theirs: ir.Value, reader: str) -> Iterator[tuple[ir.Value, ir.Value, str]]:
        wanted, found = _constant(mine), _constant(theirs)
        if wanted is not None or found is not None:
            self._check_constant(mine, wanted, theirs, found, reader)
            return
        maker, other = mine.producer(), theirs.producer()
        if maker is None or other is None:
            if maker is not other or mine.name != theirs.name:
                self.differ(reader, "reads another tensor", expected=_origin(mine), found=_origin(theirs))
            return
        namesake = self.namesakes.get(_name(maker))
        if not _alike(maker, other) or mine.index() != theirs.index() or self._strangers(maker, other):
            self.differ(
                _name(other),
                f"what '{reader}' reads is made by another node",
                expected=_origin(mine),
                found=_origin(theirs),
                layer=_name(maker),
            )
            if namesake is not None and namesake is not other and _alike(maker, namesake):
                yield mine, namesake.outputs[mine.index() or 0], reader  # go on where both meet again
            return
        known = self.matched.setdefault(_name(maker), _name(other))
        if known != _name(other):
            self.differ(reader, "reads another tensor", expected=_origin(mine), found=_origin(theirs))
            return
        self._check_attributes(maker, other)
        if len(maker.inputs) != len(other.inputs):
            self.differ(_name(other), "number of inputs", expected=_inputs(maker), found=_inputs(other))
        for left, right in zip(maker.inputs, other.inputs, strict=False):
            if left is not None and right is not None:
                yield left, right, _name(other)
            elif left is not right:
                self.differ(_name(other), "optional input", expected=_origin(left), found=_origin(right))

    def _strangers(self, maker: ir.Node, other: ir.Node) -> bool:
        """Whether a name tells that two nodes of one operator are not each other's, in graphs that kept their names."""
        namesake = self.namesakes.get(_name(maker))
        return namesake is not other and (namesake is not None or _name(other) in self.parents)

    def _check_attributes(self, maker: ir.Node, other: ir.Node) -> None:
        mine, theirs = self.parent.attributes(maker), self.candidate.attributes(other)
        for name in sorted(mine.keys() | theirs.keys()):
            left, right = mine.get(name), theirs.get(name)
            if not self._same_attribute(left, right):
                self.differ(
                    _name(other), f"attribute '{name}' of {other.op_type}", expected=_shown(left), found=_shown(right)
                )

    def _same_attribute(self, left: Any, right: Any) -> bool:
        if isinstance(left, ir.Graph) and isinstance(right, ir.Graph):
            if self.element is not None:  # casts may stand anywhere in it
                return _operators(left) == _operators(right)
            return _text(left) == _text(right)
        if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
            return self._rounded_alike(left, right)
        if self.element is not None and left == ir.DataType.FLOAT.value and right == self.element.value:
            return True  # the type that a Cast, an EyeLike, a RandomNormal makes
        return bool(left == right)

    def _check_constant(
        self,
        mine: ir.Value,
        wanted: npt.NDArray[Any] | None,
        theirs: ir.Value,
        found: npt.NDArray[Any] | None,
        reader: str,
    ) -> None:
        if wanted is None or found is None:
            self.differ(reader, "reads a constant or not", expected=_origin(mine), found=_origin(theirs))
            return
        self.constants += 1
        if not self._rounded_alike(wanted, found):
            self.differ(reader, f"constant '{theirs.name}'", expected="the parent's values", found=_gap(wanted, found))

    def _rounded_alike(self, wanted: npt.NDArray[Any], found: npt.NDArray[Any]) -> bool:
        """Whether ``found`` is ``wanted`` to the bit, or as the candidate's 16-bit type rounds it."""
        if wanted.shape != found.shape:
            return False
        if wanted.dtype == found.dtype:
            return wanted.tobytes() == found.tobytes()
        if self.element is None or wanted.dtype != np.float32 or found.dtype != self.element.numpy():
            return False
        with np.errstate(over="ignore"):
            rounded = wanted.astype(found.dtype)
        with np.errstate(invalid="ignore"):  # infinities
            same = (rounded == found) | (np.isnan(wanted) & np.isnan(found.astype(np.float32)))
        # What would vanish, or overflow, may be kept at the end of the type's range instead.
        if self.element is ir.DataType.FLOAT16:
            limits, narrow = np.finfo(np.float16), found.astype(np.float32)
            magnitude, kept = np.abs(wanted), np.abs(narrow)
            tiny = (magnitude < limits.tiny) & (wanted != 0) & (narrow != 0) & (kept <= limits.tiny)
            huge = (magnitude > limits.max) & np.isfinite(wanted) & (kept == limits.max)
            same |= (tiny | huge) & (np.signbit(wanted) == np.signbit(narrow))
        return bool(same.all())

    def _check_pair(self, mine: ir.Value, pair: tuple[ir.Node, ir.Node], reader: str) -> None:
        quantizer, dequantizer = pair
        layer = self.back(reader)
        scales = [_numbers(node.inputs[1]) for node in pair]
        zeros = [_numbers(node.inputs[2]) if len(node.inputs) > 2 else None for node in pair]
        scale = scales[0]
        if scale is None or scales[1] is None or scale.size != 1:
            self.differ(_name(quantizer), "scale", expected="one constant number", found="something else", layer=layer)
            return
        if scale.tobytes() != scales[1].tobytes():
            self.differ(
                _name(dequantizer),
                "the two scales of a pair",
                expected=f"{float(scale.reshape(())):.9g} as in '{_name(quantizer)}'",
                found=f"{float(scales[1].reshape(-1)[0]):.9g}",
                layer=layer,
            )
        for node, zero in zip(pair, zeros, strict=True):
            kind = _integer_type(node, zero)
            if kind != "int8" or (zero is not None and zero.any()):
                self.differ(
                    _name(node),
                    "zero point",
                    expected="0 of int8",
                    found=f"{'none' if zero is None else zero.reshape(-1)[0]} of {kind}",
                    layer=layer,
                )
        value = float(scale.reshape(()))
        if not (np.isfinite(value) and value > 0):
            self.differ(_name(quantizer), "scale", expected="a positive, finite number", found=str(value), layer=layer)
        self.pairs.append(_Pair(str(mine.name), value, _name(quantizer), reader))

    def _check_weight(self, mine: ir.Value, dequantizer: ir.Node, reader: str) -> None:
        weight, layer = _constant(mine), self.back(reader)
        integers, scales = (_numbers(value) for value in dequantizer.inputs[:2])
        zero = _numbers(dequantizer.inputs[2]) if len(dequantizer.inputs) > 2 else None
        if weight is None or integers is None or scales is None or weight.shape != integers.shape:
            self.differ(
                _name(dequantizer),
                "weight",
                expected=_origin(mine) if weight is None else f"integers of shape {list(weight.shape)}",
                found="a dequantized constant" if integers is None else f"integers of shape {list(integers.shape)}",
                layer=layer,
            )
            return
        if integers.dtype != np.int8 or (zero is not None and zero.any()):
            self.differ(
                _name(dequantizer),
                "zero point",
                expected="0 of int8",
                found=f"another one, of {integers.dtype}",
                layer=layer,
            )
        axis = dequantizer.attributes["axis"].as_int() if "axis" in dequantizer.attributes else 1
        axis = axis % max(weight.ndim, 1)
        known = next((seen for seen in self.weights if seen.dequantizer == _name(dequantizer)), None)
        largest = int(np.abs(integers.astype(np.int32)).max(initial=0)) if known is None else known.largest
        self.weights.append(_Weight(str(mine.name), axis, largest, _name(dequantizer), reader))
        if known is not None and known.weight == mine.name:
            return  # another reader of the same weight
        self._check_steps(weight, integers, scales, axis, dequantizer, layer)

    def _check_steps(
        self,
        weight: npt.NDArray[Any],
        integers: npt.NDArray[Any],
        scales: npt.NDArray[Any],
        axis: int,
        dequantizer: ir.Node,
        layer: str,
    ) -> None:
        steps = scales.astype(np.float64)
        if not (np.isfinite(steps) & (steps > 0)).all() or (steps.ndim and steps.shape != (weight.shape[axis],)):
            self.differ(
                _name(dequantizer),
                "scales of a weight",
                expected=f"{weight.shape[axis]} positive, finite numbers",
                found=f"{steps.size} numbers from {steps.min():.3g} to {steps.max():.3g}",
                layer=layer,
            )
            return
        grid = steps.reshape([-1 if index == axis else 1 for index in range(weight.ndim)]) if steps.ndim else steps
        wanted, whole = weight.astype(np.float64), integers.astype(np.float64)
        rounding = 2.0**-11 if scales.dtype != np.float32 else 2.0**-23
        off = np.abs(wanted / grid - whole) - np.abs(whole) * rounding
        if (worst := off.max(initial=0.0)) > _HALF_STEP:
            self.differ(
                _name(dequantizer),
                f"{np.count_nonzero(off > _HALF_STEP)} of {off.size} integers of a weight",
                expected="within half a step of the parent's weight",
                found=f"up to {worst:.3g} steps away",
                layer=layer,
            )
        others = tuple(index for index in range(weight.ndim) if index != axis)
        bounds = np.abs(wanted).max(axis=others, initial=0.0) if steps.ndim else np.abs(wanted).max(initial=0.0)
        limit = 63 if np.abs(whole).max(initial=0.0) <= 63 else ACTIVATION_LIMIT
        needed = bounds / limit
        wide = (steps > needed * (1 + _SCALE_SLACK) + self.smallest_step) & (bounds > 0)
        if wide.any():
            place = int(np.argmax(np.where(wide, steps / np.maximum(needed, 1e-300), 0)))
            self.differ(
                _name(dequantizer),
                f"scale of output channel {place}",
                expected=f"{needed.reshape(-1)[place]:.6g}, which just holds the largest weight",
                found=f"{steps.reshape(-1)[place]:.6g}",
                layer=layer,
            )


def _check_plan(walk: _Walk, plan: QuantPlan) -> None:
    """Hold what was found against what was decided."""
    tensors = {decision.tensor: decision for decision in plan.quantized_tensors}
    readers: dict[str, set[str]] = {name: set() for name in tensors}
    back = {theirs: mine for mine, theirs in walk.matched.items()}
    for pair in walk.pairs:
        decision = tensors.get(pair.tensor)
        if decision is None:
            walk.differ(
                pair.quantizer,
                f"'{pair.tensor}' is rounded",
                expected="floating point, as the plan says",
                found=f"a pair of scale {pair.scale:.6g} before '{pair.reader}'",
                layer=back.get(pair.reader, pair.reader),
            )
            continue
        readers[pair.tensor].add(back.get(pair.reader, pair.reader))
        _check_scale(walk, pair, decision, layer=back.get(pair.reader, pair.reader))
    for name, decision in tensors.items():
        _check_readers(walk, name, decision, readers[name])
    _check_nodes(walk, plan, back)


def _check_scale(walk: _Walk, pair: _Pair, decision: TensorDecision, *, layer: str) -> None:
    if decision.scale is not None:
        exact = np.float32(decision.scale)
        wanted = exact if walk.element is None else exact.astype(walk.element.numpy())
        if pair.scale not in (float(exact), float(wanted)):
            walk.differ(
                pair.quantizer,
                f"scale of '{pair.tensor}'",
                expected=f"{float(wanted):.9g}, as the plan says",
                found=f"{pair.scale:.9g}",
                layer=layer,
            )
    if decision.bound is not None:
        reach = pair.scale * ACTIVATION_LIMIT
        if not -_SCALE_SLACK <= reach / decision.bound - 1 <= _SCALE_SLACK + walk.smallest_step / pair.scale:
            walk.differ(
                pair.quantizer,
                f"bound of '{pair.tensor}'",
                expected=f"{decision.bound:.6g}, as the plan says",
                found=f"{reach:.6g}, where 127 steps end",
                layer=layer,
            )


def _check_readers(walk: _Walk, name: str, decision: TensorDecision, found: set[str]) -> None:
    wanted = set(decision.consumers)
    for reader in sorted((wanted - found) & walk.matched.keys()):
        walk.differ(
            walk.matched.get(reader, reader),
            f"'{reader}' reads '{name}'",
            expected="rounded by a pair, as the plan says",
            found="unrounded, or something else",
            layer=reader,
        )
    for reader in sorted(found - wanted):
        walk.differ(
            walk.matched.get(reader, reader),
            f"'{reader}' reads '{name}'",
            expected="unrounded, as the plan says",
            found="rounded by a pair",
            layer=reader,
        )


def _check_nodes(walk: _Walk, plan: QuantPlan, back: Mapping[str, str]) -> None:
    weights = {back.get(weight.reader, weight.reader): weight for weight in walk.weights}
    decided = {decision.node: decision for decision in plan.quantized_nodes}
    for name, decision in decided.items():
        if name not in walk.matched:
            continue  # what leads there differs, and was told of
        weight = weights.get(name)
        most = int(2 ** ((decision.weight_bits or 8) - 1)) - 1
        if weight is None:
            walk.differ(
                walk.matched.get(name, name), f"weight of '{name}'", expected="INT8, as the plan says", found="not INT8"
            )
        elif (weight.weight, weight.axis) != (decision.weight, decision.weight_axis):
            walk.differ(
                weight.dequantizer,
                f"weight of '{name}'",
                expected=f"'{decision.weight}' scaled along axis {decision.weight_axis}, as the plan says",
                found=f"'{weight.weight}' along axis {weight.axis}",
                layer=name,
            )
        elif not (weight.largest <= most and (weight.largest > most // 2 or weight.largest == 0)):
            walk.differ(
                weight.dequantizer,
                f"bits of '{name}'",
                expected=f"integers up to {most}, as the plan says",
                found=f"up to {weight.largest}",
                layer=name,
            )
    for name in sorted(weights.keys() - decided.keys()):
        walk.differ(
            weights[name].dequantizer,
            f"weight of '{name}'",
            expected="floating point, as the plan says",
            found="INT8",
            layer=name,
        )


def _alike(first: ir.Node, second: ir.Node) -> bool:
    return (first.domain, first.op_type) == (second.domain, second.op_type)


def _name(node: ir.Node | None) -> str:
    if node is None:
        return "the graph's input"
    return str(node.name or (node.outputs[0].name if node.outputs else node.op_type))


def _origin(value: ir.Value | None) -> str:
    if value is None:
        return "nothing"
    if _constant(value) is not None:
        return f"the constant '{value.name}'"
    maker = value.producer()
    return f"the input '{value.name}'" if maker is None else f"{maker.op_type} '{_name(maker)}'"


def _inputs(node: ir.Node) -> str:
    return f"{len(node.inputs)} ({', '.join(_origin(value) for value in node.inputs)})"


def _constant(value: ir.Value) -> npt.NDArray[Any] | None:
    """Return the values of an initializer or of a Constant node."""
    maker = value.producer()
    if maker is None:
        tensor = value.const_value
        return None if tensor is None else np.asarray(tensor.numpy())
    if maker.op_type == "Constant" and not maker.domain:
        held = next(iter(maker.attributes.values())).value
        return _plain(held) if isinstance(_plain(held), np.ndarray) else np.asarray(held)
    return None


def _numbers(value: ir.Value | None) -> npt.NDArray[Any] | None:
    if value is None:
        return None
    maker = value.producer()
    if maker is not None and maker.op_type == "Cast":  # a scale that two element types share
        found = _numbers(maker.inputs[0])
        return None if found is None else found.astype(_cast_to(maker).numpy())
    return _constant(value)


def _integer_type(node: ir.Node, zero: npt.NDArray[Any] | None) -> str:
    if zero is not None:
        return str(zero.dtype)
    if "output_dtype" in node.attributes and node.op_type == "QuantizeLinear":
        return str(ir.DataType(node.attributes["output_dtype"].as_int()).numpy())
    return "uint8" if node.op_type == "QuantizeLinear" else "int8"


def _cast_to(node: ir.Node) -> ir.DataType:
    return ir.DataType(node.attributes["to"].as_int())


def _plain(value: Any) -> Any:
    """Return an attribute's value in a form that can be compared."""
    if isinstance(value, ir.TensorProtocol):
        return np.asarray(value.numpy())
    if isinstance(value, list | tuple):
        return tuple(value)
    return value


def _operators(graph: ir.Graph) -> list[str]:
    return sorted(node.op_type for node in graph if node.op_type != "Cast")


def _text(graph: ir.Graph) -> bytes:
    return bytes(ir.to_proto(graph).SerializeToString(deterministic=True))


def _shown(value: Any) -> str:
    if isinstance(value, ir.Graph):
        return f"a body of {len(value)} nodes"
    return "nothing" if value is None else str(value)[:80]


def _typed(value: ir.Value) -> str:
    return f"{value.name}: {value.dtype} {value.shape}"


def _gap(wanted: npt.NDArray[Any], found: npt.NDArray[Any]) -> str:
    if wanted.shape != found.shape:
        return f"shape {list(found.shape)} instead of {list(wanted.shape)}"
    if wanted.dtype.kind not in "fV" and wanted.dtype != found.dtype:
        return f"{found.dtype} instead of {wanted.dtype}"
    with np.errstate(over="ignore"):
        rounded = wanted.astype(found.dtype) if wanted.dtype.kind == "f" else wanted
    left, right = (array.astype(np.float64).reshape(-1) for array in (rounded, found))
    with np.errstate(invalid="ignore"):  # infinities
        off = np.abs(left - right)
    place = int(np.nanargmax(off)) if np.isfinite(off).any() else 0
    count = np.count_nonzero(left != right)
    return f"{count} of {left.size} values differ, such as {right[place]:.6g} for {left[place]:.6g}"
