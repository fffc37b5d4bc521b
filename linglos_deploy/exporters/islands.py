"""Which nodes of a 16-bit graph stay in float32, and why: where range, tiny numbers or the length of a sum demand it.

The operator table says which operators are at risk. What they give is followed forward, because a value that 16 bits
cannot store must not leave float32 before something brings it back to an ordinary size:

    mean      x -> mean -> x - mean                                  up to where data meets the statistic
    wide      x -> x^2 -> mean -> + 1e-12 -> sqrt -> x / sqrt        squares, sums, exponentials, tiny offsets
    softmax   q k -> scores (+ mask) -> softmax -> product with v    weights of 1/N lie below float16's smallest normal
    beyond    scores + -3.4e38 -> softmax                            what float32 alone can hold
    exact     positions, sizes, masks made of integers               up to where they meet data
    pixels    the normalization of pixels                            0..255 minus an offset, before any weight

LayerNormalization reads and writes 16 bits: the operator's own ``stash_type`` keeps its reduction in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import TypeGuard

import onnx_ir as ir

from linglos_deploy.exporters.element_types import gives_output
from linglos_deploy.exporters.narrowing import LARGEST, SMALLEST_NORMAL, Loss, loss
from linglos_deploy.graph.links import constant_array
from linglos_deploy.graph.operators import Risk, Work, operator

FLOAT = ir.DataType.FLOAT
HEADROOM = 4.0
"""Images that nobody calibrated with may reach a few times as far."""

QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
PRODUCTS = frozenset({Work.CONVOLUTION, Work.TRANSPOSED, Work.MATMUL, Work.EINSUM})
"""Work that multiplies with weights or between activations, and accumulates in float32 whatever it reads."""

_JOINS = frozenset({"Concat", "Pad", "CenterCropPad", "Trilu", "Scatter", "ScatterElements", "ScatterND", "TopK"})
_LIMITS = frozenset({"Clip", "Max", "Min"})
"""A limit that 16 bits cannot hold limits nothing there; as an infinity it does the same."""
_BOUNDED = frozenset({"Atan", "Cos", "Erf", "HardSigmoid", "Hardmax", "Sigmoid", "Sign", "Sin", "Softsign", "Tanh"})
_MEANS = frozenset({"ReduceMean", "GlobalAveragePool"})
_LOGARITHMS = frozenset({"Log", "ReduceLogSum", "ReduceLogSumExp"})
_ROOTS_OF_SUMS = frozenset({"ReduceL2", "LpPool", "GlobalLpPool"})
_SCALES = {
    "BatchNormalization": (1, 4),
    "GroupNormalization": (1,),
    "InstanceNormalization": (1,),
    "LayerNormalization": (1,),
    "LRN": (),
    "LpNormalization": (),
    "MeanVarianceNormalization": (),
    "RMSNormalization": (1,),
}
"""Norms, with the constants whose small values count: those that multiply or divide."""
_STASHES = frozenset({"LayerNormalization", "RMSNormalization", "BatchNormalization", "GroupNormalization"})
"""Norms that keep their sums in float32 by themselves, or have none."""
_COORDINATES = {
    "GridSample": (1,),
    "AffineGrid": (0,),
    "RoiAlign": (1,),
    "MaxRoiPool": (1,),
    "NonMaxSuppression": (0, 1),
}
_ELEMENTWISE = frozenset(
    {
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Neg",
        "Where",
        "Clip",
        "Min",
        "Max",
        "Sum",
        "Mean",
        "Tanh",
        "Sigmoid",
        "Floor",
        "Round",
    }
)


_NOT_IN_BFLOAT16 = frozenset({"ConvTranspose", "HardSwish", "Mish", "Shrink"})
"""What ONNX allows and the builder of TensorRT-RTX 1.7 refuses."""


class Loses(IntEnum):
    """What a value would lose in 16 bits, from nothing to everything."""

    NOTHING = 0
    STATISTIC = 1
    """A mean, or the root of one: it fits, but its rounding goes into everything that it is taken from or divides."""
    WIDE = 2
    """Squares, sums, exponentials, reciprocals, probabilities: too large or too small for 16 bits, or both."""
    BEYOND = 3
    """All of it: finite in float32, infinite or nothing but zeros in 16 bits."""


Judgement = tuple[str | None, Loses]
"""Why a node stays in float32, ``None`` if it does not; and what its results would lose in 16 bits."""


def float32_islands(
    model: ir.Model, kind: ir.DataType, *, ranges: Mapping[str, float] | None = None
) -> dict[ir.Node, str]:
    """Return the nodes that stay in float32, in graphs inside graphs too, each with the reason.

    Args:
        model: A graph whose tensors have element types.
        kind: ``FLOAT16`` or ``BFLOAT16``.
        ranges: Largest magnitudes of tensors, as seen in calibration. What comes within a factor of 4 of the largest
            number of ``kind``, or lies below its smallest normal number altogether, stays in float32.
    """
    survey = _Survey(model, kind, ranges or {})
    survey.visit(model.graph)
    return survey.islands


def out_of_range(bound: float, kind: ir.DataType) -> bool:
    """Return whether a tensor of that largest magnitude should not be stored in 16 bits."""
    return bound * HEADROOM >= LARGEST[kind] or 0.0 < bound < SMALLEST_NORMAL[kind]


def is_float32(value: ir.Value | None) -> TypeGuard[ir.Value]:
    """Return whether ``value`` is a float32 tensor."""
    return value is not None and isinstance(value.type, ir.TensorType) and value.dtype == FLOAT


def is_constant(value: ir.Value) -> bool:
    """Return whether ``value`` is an initializer or comes from a Constant node."""
    return ir.convenience.get_const_tensor(value) is not None


def bodies(node: ir.Node) -> list[ir.Graph]:
    """Return the graphs inside a node."""
    found: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            found.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            found.extend(attribute.as_graphs())
    return found


class _Survey:
    """Walks the graph once, in order, and keeps what is known of each value."""

    def __init__(self, model: ir.Model, kind: ir.DataType, ranges: Mapping[str, float]) -> None:
        self.kind = kind
        self.opsets = model.opset_imports
        self.ranges = ranges
        self.islands: dict[ir.Node, str] = {}
        self.losses: dict[ir.Value, Loses] = {}
        self.exact: set[ir.Value] = set()
        """Made of integers, positions and constants alone."""
        self.data: set[ir.Value] = set()
        """Depends on what the graph is fed with."""
        self.weighted: set[ir.Value] = set()
        """Behind the first weight."""

    def visit(self, graph: ir.Graph, *, inner: bool = False) -> None:
        self.data.update(graph.inputs)
        if inner:
            self.weighted.update(graph.inputs)
        for value in graph.inputs:
            if out_of_range(self.ranges.get(value.name or "", 0.0), self.kind):
                self.losses[value] = Loses.BEYOND
        for node in graph:
            for body in bodies(node):
                self.visit(body, inner=True)
            self._trace(node)
            if any(is_float32(value) for value in (*node.inputs, *node.outputs)):
                reason, loses = self._judge(node)
                self.losses.update(dict.fromkeys(node.outputs, loses))
                if reason is not None:
                    self._keep(node, reason)
                self._apply_ranges(node)
                if not self.weighted.intersection(node.outputs):
                    self._keep(node, "before the first weight")

    def _keep(self, node: ir.Node, reason: str) -> None:
        self.islands.setdefault(node, reason)

    def _trace(self, node: ir.Node) -> None:
        """Note what the results depend on."""
        inside = [value for body in bodies(node) for inner in body for value in inner.inputs]
        reads = [value for value in (*node.inputs, *inside) if value is not None]
        fed = bool(self.data.intersection(reads)) and node.op_type not in {"Shape", "Size"}
        weighs = _has_weight(node)
        if fed:
            self.data.update(node.outputs)
        if weighs or self.weighted.intersection(reads):
            self.weighted.update(node.outputs)
        if not (fed and weighs) and all(
            _is_integral(value) or value in self.exact or is_constant(value) for value in reads
        ):
            self.exact.update(node.outputs)

    def _apply_ranges(self, node: ir.Node) -> None:
        """Let what was seen overrule what could be."""
        for output in node.outputs:
            bound = self.ranges.get(output.name or "")
            if bound is None or not is_float32(output):
                continue
            if out_of_range(bound, self.kind):
                self.losses[output] = Loses.BEYOND
                self._keep(node, f"reaches {bound:.4g} in calibration")
            elif self.losses[output] is Loses.BEYOND:
                self.losses[output] = Loses.NOTHING

    def _judge(self, node: ir.Node) -> Judgement:
        row = operator(node)
        computed = [value for value in node.inputs if is_float32(value) and not is_constant(value)]
        worst = max((self.losses.get(value, Loses.NOTHING) for value in computed), default=Loses.NOTHING)
        constants = self._constants(node)
        if not row.known or row.subgraphs or node.op_type == "BitCast" or not _has_tensors_only(node):
            return "its types are its own", Loses.NOTHING
        if not self._has_kind(node):
            return f"has no {self.kind.name.lower()}", worst if worst is Loses.BEYOND else Loses.NOTHING
        if row.work in PRODUCTS:
            return self._judge_product(node, worst, constants)
        if row.work is Work.RECURRENT:
            return "rounds in steps that no check sees", Loses.NOTHING
        if node.op_type in QUANTIZERS:
            if constants is not Loss.NOTHING:
                return "its scale is beyond 16 bits", Loses.WIDE
            return ("reads what 16 bits cannot store" if worst >= Loses.WIDE else None), Loses.NOTHING
        if row.layout or node.op_type in _JOINS:
            worst = Loses.BEYOND if constants is Loss.HUGE else worst
            return ("moves what 16 bits cannot store" if worst >= Loses.WIDE else None), worst
        if self.exact.issuperset(computed) and not (row.sets_type and not computed and constants is Loss.NOTHING):
            huge = constants is Loss.HUGE or worst is Loses.BEYOND
            return "made of integers and positions", Loses.BEYOND if huge else Loses.NOTHING
        return self._judge_function(node, computed, worst, constants)

    def _judge_product(self, node: ir.Node, worst: Loses, constants: Loss) -> Judgement:
        if not self.data.intersection(value for value in node.inputs if value is not None):
            return "made of integers and positions", Loses.NOTHING
        if constants is Loss.TINY:
            return "its weights are below 16 bits", Loses.WIDE
        return ("sums what 16 bits cannot store" if worst >= Loses.WIDE else None), Loses.NOTHING

    def _judge_function(self, node: ir.Node, computed: list[ir.Value], worst: Loses, constants: Loss) -> Judgement:
        risk = operator(node).risk
        if node.op_type in {"Softmax", "LogSoftmax"}:
            self._follow_back(node.inputs[:1], "scores of a softmax", with_product=True)
            return "softmax", Loses.WIDE if node.op_type == "Softmax" else Loses.NOTHING
        if risk is Risk.PROBABILITIES:
            return "softmax", Loses.NOTHING
        if node.op_type in _COORDINATES:
            places = [node.inputs[index] for index in _COORDINATES[node.op_type] if index < len(node.inputs)]
            self._follow_back(places, "coordinates", with_product=False)
            return "reads coordinates", Loses.NOTHING
        if node.op_type in _SCALES:
            return self._judge_norm(node, worst, constants)
        if node.op_type in _MEANS:
            return "mean of many terms", max(worst, Loses.STATISTIC)
        if node.op_type in _LOGARITHMS:
            return "logarithm", Loses.NOTHING
        if _is_root(node):
            return str(risk), {Loses.WIDE: Loses.STATISTIC}.get(worst, worst)
        if risk in (Risk.RANGE, Risk.TERMS, Risk.NORMALIZED):
            return str(risk), Loses.STATISTIC if node.op_type in _ROOTS_OF_SUMS else Loses.WIDE
        if node.op_type == "Mul" and node.inputs[0] is node.inputs[1]:
            return str(Risk.RANGE), Loses.WIDE
        if constants is Loss.HUGE:
            return "a constant beyond 16 bits", Loses.BEYOND
        met = self._after_meeting(node, computed, worst)
        if constants is Loss.TINY:
            added = node.op_type in {"Add", "Sub", *_LIMITS}
            return "a constant below 16 bits", met if added else max(met, Loses.WIDE)
        constant = [is_constant(value) for value in node.inputs if value is not None]
        if risk is Risk.TINY and not (node.op_type == "Div" and constant[1]):
            inverts = node.op_type == "Reciprocal" or constant[0]
            return str(risk), Loses.WIDE if inverts else met
        return ("uses what 16 bits cannot store" if worst > Loses.NOTHING else None), met

    def _judge_norm(self, node: ir.Node, worst: Loses, constants: Loss) -> Judgement:
        stashes = node.op_type in _STASHES and not (node.op_type == "GroupNormalization" and self._opset(node) < 21)
        if stashes and worst < Loses.WIDE and constants is Loss.NOTHING:
            return None, Loses.NOTHING
        affine = node.op_type == "BatchNormalization"
        return "norm", max(Loses.WIDE if constants is Loss.TINY else Loses.NOTHING, worst if affine else Loses.NOTHING)

    def _after_meeting(self, node: ir.Node, computed: list[ir.Value], worst: Loses) -> Loses:
        """Return what a function of several values loses: ordinary data brings statistics back to its own size."""
        if node.op_type in _BOUNDED:
            return Loses.NOTHING
        if worst is Loses.BEYOND:
            return worst
        ordinary = [value for value in computed if value not in self.exact]
        return min((self.losses.get(value, Loses.NOTHING) for value in ordinary), default=worst)

    def _constants(self, node: ir.Node) -> Loss:
        """Return the worst that the constants of a node lose: of those whose loss would show."""
        row = operator(node)
        if row.work in PRODUCTS:
            chosen = [node.inputs[index] for index in row.weights] or list(node.inputs)
        elif node.op_type in _SCALES:
            chosen = [node.inputs[index] for index in _SCALES[node.op_type]]
        else:
            chosen = list(node.inputs)
        arrays = [constant_array(value) for value in chosen if is_float32(value)]
        filled = node.attributes.get("value")
        if filled is not None and filled.type == ir.AttributeType.TENSOR and filled.as_tensor().dtype == FLOAT:
            arrays.append(filled.as_tensor().numpy())
        found = [(values, loss(values, self.kind)) for values in arrays if values is not None]
        if any(lost is Loss.HUGE for _, lost in found) and node.op_type not in _LIMITS:
            return Loss.HUGE
        sums = node.op_type in {
            "Add",
            "Sub",
        }  # a bias of small numbers is lost beside what it is added to; an epsilon not
        tiny = any(lost is Loss.TINY for values, lost in found if not sums or values.size == 1)
        return Loss.TINY if tiny else Loss.NOTHING

    def _has_kind(self, node: ir.Node) -> bool:
        if self.kind == ir.DataType.BFLOAT16 and node.op_type in _NOT_IN_BFLOAT16:
            return False
        opset = self._opset(node)
        return all(
            gives_output(node, index, self.kind, opset) for index, value in enumerate(node.outputs) if is_float32(value)
        )

    def _opset(self, node: ir.Node) -> int:
        return node.version or self.opsets.get(node.domain, 0)

    def _follow_back(self, values: Iterable[ir.Value | None], reason: str, *, with_product: bool) -> None:
        """Take in what makes ``values`` and nothing else: layout and elementwise nodes, and the product before them."""
        for value in values:
            maker = value.producer() if is_float32(value) else None
            if value is None or maker is None:
                continue
            row = operator(maker)
            alone = len(value.consumers()) == 1
            if row.layout:
                self._keep(maker, reason)
                self._follow_back([maker.inputs[row.data[0]]], reason, with_product=with_product)
            elif maker.op_type in _ELEMENTWISE and alone:
                self._keep(maker, reason)
                self._follow_back(maker.inputs, reason, with_product=with_product)
            elif with_product and row.work in PRODUCTS and alone:
                self._keep(maker, reason)


def _is_root(node: ir.Node) -> bool:
    exponent = constant_array(node.inputs[1]) if node.op_type == "Pow" else None
    return node.op_type == "Sqrt" or (exponent is not None and all(0.0 < float(power) < 1.0 for power in exponent.flat))


def _has_weight(node: ir.Node) -> bool:
    row = operator(node)
    table = node.inputs[0] if node.op_type in {"Gather", "GatherND"} else None
    embeds = is_float32(table) and is_constant(table)
    return row.work in PRODUCTS or row.work is Work.RECURRENT or row.subgraphs or node.op_type in QUANTIZERS or embeds


def _is_integral(value: ir.Value) -> bool:
    return value.dtype is not None and not value.dtype.is_floating_point()


def _has_tensors_only(node: ir.Node) -> bool:
    return all(
        value is None or value.type is None or isinstance(value.type, ir.TensorType)
        for value in (*node.inputs, *node.outputs)
    )
