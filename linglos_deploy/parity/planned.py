"""Does a graph do what its quantization plan says: these tensors, for these readers, with these scales and bits?

Which tensors and readers these are depends on the runtime, too: :mod:`linglos_deploy.quantization.placing`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from linglos_deploy.graph.links import node_name
from linglos_deploy.parity.pairs import SCALE_SLACK, Pair, Weight, differs, smallest_step
from linglos_deploy.quantization.placement import Placement
from linglos_deploy.quantization.placing import Places, bias_of, grid_of
from linglos_deploy.quantization.plan import NodeDecision, QuantPlan, ResultDecision, TensorDecision, limits_of
from linglos_deploy.quantization.rounding import ACTIVATION_LIMIT
from linglos_deploy.reports.parity import StructuralDifference


@dataclass(frozen=True, slots=True)
class Rounding:
    """What a candidate rounds.

    Attributes:
        pairs: Its Q/DQ pairs, one for each reader.
        weights: Its dequantized weights, one for each reader.
        biases: Its dequantized biases, one for each reader.
        matched: The candidate's node for each of the parent's.
        element: Its 16-bit type, ``None`` if it has none.
    """

    pairs: Sequence[Pair]
    weights: Sequence[Weight]
    biases: Sequence[Weight]
    matched: Mapping[str, str]
    element: ir.DataType | None

    def differs(self, layer: str, what: str, *, expected: str, found: str) -> StructuralDifference:
        """Return a difference at the candidate's node for one of the parent's."""
        return StructuralDifference(self.matched.get(layer, layer), layer, what, expected, found)


def plan_differences(
    rounding: Rounding, plan: QuantPlan, placement: Placement, places: Places
) -> Iterator[StructuralDifference]:
    """Yield what a candidate does otherwise than its plan says.

    Args:
        rounding: What it does.
        plan: The decisions.
        placement: The form that its runtime wants.
        places: What that makes of the decisions.
    """
    readers: dict[str, set[str]] = {name: set() for name in places.pairs}
    for pair in rounding.pairs:
        place = places.pairs.get(pair.tensor)
        if place is None:
            yield differs(
                pair,
                f"'{pair.tensor}' is rounded",
                expected=f"floating point, as the plan says for '{placement.name}'",
                found=f"a pair of scale {pair.scale:.6g} before '{pair.reader}'",
            )
            continue
        readers[pair.tensor].add(pair.layer)
        if placement.zero_points:
            yield from _grid_differences(pair, place.decision, placement)
        else:
            assert isinstance(place.decision, TensorDecision), pair.tensor
            yield from _scale_differences(pair, place.decision, rounding.element)
    for name, place in places.pairs.items():
        yield from _reader_differences(rounding, name, {node_name(it) for it in place.readers}, readers[name])
    yield from _node_differences(rounding, plan, places)
    yield from _bias_differences(rounding, placement, places)


def _grid_differences(
    pair: Pair, decision: TensorDecision | ResultDecision, placement: Placement
) -> Iterator[StructuralDifference]:
    scale, zero_point = grid_of(decision, placement, np.float32)
    if (pair.scale, pair.zero_points[0]) != (scale, int(zero_point)):
        low, high = limits_of(decision)
        yield differs(
            pair,
            f"grid of '{pair.tensor}'",
            expected=f"scale {scale:.9g}, zero point {zero_point}: {low:.6g} to {high:.6g}, as the plan says",
            found=f"scale {pair.scale:.9g}, zero point {pair.zero_points[0]}",
        )


def _scale_differences(
    pair: Pair, decision: TensorDecision, element: ir.DataType | None
) -> Iterator[StructuralDifference]:
    assert pair.scale is not None
    if decision.scale is not None:
        exact = np.float32(decision.scale)
        wanted = exact if element is None else exact.astype(element.numpy())
        if pair.scale not in (float(exact), float(wanted)):
            yield differs(
                pair,
                f"scale of '{pair.tensor}'",
                expected=f"{float(wanted):.9g}, as the plan says",
                found=f"{pair.scale:.9g}",
            )
    if decision.bound is not None:
        reach = pair.scale * ACTIVATION_LIMIT
        if not -SCALE_SLACK <= reach / decision.bound - 1 <= SCALE_SLACK + smallest_step(element) / pair.scale:
            yield differs(
                pair,
                f"bound of '{pair.tensor}'",
                expected=f"{decision.bound:.6g}, as the plan says",
                found=f"{reach:.6g}, where 127 steps end",
            )


def _reader_differences(
    rounding: Rounding, name: str, wanted: set[str], found: set[str]
) -> Iterator[StructuralDifference]:
    for layer in sorted((wanted - found) & rounding.matched.keys()):
        yield rounding.differs(
            layer,
            f"'{layer}' reads '{name}'",
            expected="rounded by a pair, as the plan says",
            found="unrounded, or something else",
        )
    for layer in sorted(found - wanted):
        yield rounding.differs(
            layer,
            f"'{layer}' reads '{name}'",
            expected="unrounded, as the plan says",
            found="rounded by a pair",
        )


def _bias_differences(rounding: Rounding, placement: Placement, places: Places) -> Iterator[StructuralDifference]:
    found = {bias.layer: bias.dequantizer for bias in rounding.biases}
    wanted = {layer.name for layer in places.layers if bias_of(layer, placement) is not None}
    for layer in sorted((wanted ^ found.keys()) & rounding.matched.keys()):
        yield StructuralDifference(
            found.get(layer, rounding.matched[layer]),
            layer,
            f"bias of '{layer}'",
            expected="INT32" if layer in wanted else "floating point",
            found="floating point" if layer in wanted else "INT32",
        )


def _node_differences(rounding: Rounding, plan: QuantPlan, places: Places) -> Iterator[StructuralDifference]:
    weights = {weight.layer: weight for weight in rounding.weights}
    decided = {decision.node: decision for decision in plan.quantized_nodes if decision.node not in places.left}
    for layer, decision in decided.items():
        if layer not in rounding.matched:
            continue  # what leads there differs, and was told of
        weight = weights.get(layer)
        if weight is None:
            yield rounding.differs(
                layer,
                f"weight of '{layer}'",
                expected="INT8, as the plan says",
                found="not INT8",
            )
        else:
            yield from _weight_differences(weight, decision)
    for layer in sorted(weights.keys() - decided.keys()):
        yield differs(
            weights[layer],
            f"weight of '{layer}'",
            expected="floating point, as the plan says",
            found="INT8",
        )


def _weight_differences(weight: Weight, decision: NodeDecision) -> Iterator[StructuralDifference]:
    most = int(2 ** ((decision.weight_bits or 8) - 1)) - 1
    if (weight.weight, weight.axis) != (decision.weight, decision.weight_axis):
        yield differs(
            weight,
            f"weight of '{weight.layer}'",
            expected=f"'{decision.weight}' scaled along axis {decision.weight_axis}, as the plan says",
            found=f"'{weight.weight}' along axis {weight.axis}",
        )
    elif not (weight.largest <= most and (weight.largest > most // 2 or weight.largest == 0)):
        yield differs(
            weight,
            f"bits of '{weight.layer}'",
            expected=f"integers up to {most}, as the plan says",
            found=f"up to {weight.largest}",
        )
