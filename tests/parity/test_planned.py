"""What a graph rounds is held against its plan, decision by decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from linglos_deploy.parity.pairs import Pair, Weight
from linglos_deploy.parity.planned import Rounding, plan_differences
from linglos_deploy.quantization.placement import DEFAULT, Placement, find_placement
from linglos_deploy.quantization.placing import PairPlace, Places, grid_of
from linglos_deploy.quantization.plan import NodeDecision, QuantPlan, TensorDecision
from linglos_deploy.quantization.scheme import QuantScheme
from tests.parity.test_pairs import PAIR, WEIGHT

PLAIN, STORED = find_placement(DEFAULT), find_placement("onnxruntime-x86")
SCALE = 0.25
DECISION = TensorDecision("x", True, "", consumers=("layer",), scale=SCALE, bound=SCALE * 127)
NODE = NodeDecision("layer", "Conv", "y", True, "", "x", "w", 0, 8)
HALF = ir.DataType.FLOAT16


def plan_of(*nodes: NodeDecision) -> QuantPlan:
    return QuantPlan("0" * 64, QuantScheme(), (DECISION,), nodes, "", "", 1, False)


def places(decision: TensorDecision = DECISION, *readers: str) -> Places:
    nodes = tuple(ir.Node("", "Conv", [], name=name) for name in readers or ("layer",))
    place = PairPlace(ir.Value(name="x"), decision, nodes, ir.DataType.FLOAT)
    return Places((), {"x": place}, (), {})


def told(
    *,
    pairs: Sequence[Pair] = (PAIR,),
    weights: Sequence[Weight] = (WEIGHT,),
    nodes: Sequence[NodeDecision] = (NODE,),
    where: Places | None = None,
    element: ir.DataType | None = None,
    placement: Placement = PLAIN,
) -> list[str]:
    matched = {"layer": "reader", "another": "another reader"}
    rounding = Rounding(pairs, weights, (), matched, element)
    found = plan_differences(rounding, plan_of(*nodes), placement, where or places())
    return [f"{difference.node}: {difference.what}" for difference in found]


def with_scale(scale: float, kind: type = np.float32) -> Pair:
    value = kind(scale).reshape(())
    return replace(PAIR, scales=(value, value))


def test_what_the_plan_says_has_no_difference() -> None:
    assert told() == []


def test_a_tensor_that_the_plan_leaves_alone_may_not_be_rounded() -> None:
    assert told(pairs=(PAIR, replace(PAIR, tensor="other"))) == ["q: 'other' is rounded"]


@pytest.mark.parametrize(
    ("scale", "bound", "found", "what"),
    [
        (SCALE, None, SCALE, []),
        (SCALE, None, SCALE * (1 + 2e-7), ["q: scale of 'x'"]),
        (SCALE, None, SCALE * 1.1, ["q: scale of 'x'"]),
        (None, SCALE * 127, SCALE * (1 + 2.0**-10), []),
        (None, SCALE * 127, SCALE * (1 - 2.0**-10), []),
        (None, SCALE * 127, SCALE * 1.01, ["q: bound of 'x'"]),
        (None, SCALE * 127, SCALE * 0.99, ["q: bound of 'x'"]),
        (None, SCALE * 127, SCALE * 2, ["q: bound of 'x'"]),
        (SCALE, SCALE * 200, SCALE, ["q: bound of 'x'"]),
        (SCALE, SCALE * 60, SCALE, ["q: bound of 'x'"]),
    ],
)
def test_scale_and_bound_are_the_plans(scale: float | None, bound: float | None, found: float, what: list[str]) -> None:
    assert told(pairs=[with_scale(found)], where=places(replace(DECISION, scale=scale, bound=bound))) == what


def test_a_scale_may_be_the_plans_as_16_bits_hold_it_in_a_16_bit_graph() -> None:
    decision = replace(DECISION, scale=0.1, bound=None)
    narrow = with_scale(float(np.float16(0.1)))
    assert told(pairs=[narrow], where=places(decision), element=HALF) == []
    assert told(pairs=[narrow], where=places(decision)) == ["q: scale of 'x'"]
    tiny = replace(DECISION, scale=None, bound=127 * 2.0**-24 * 0.6)
    assert told(pairs=[with_scale(2.0**-24)], where=places(tiny), element=HALF) == []
    assert told(pairs=[with_scale(2.0**-24)], where=places(tiny)) == ["q: bound of 'x'"]


def test_every_reader_that_the_plan_names_reads_the_pair_and_no_other() -> None:
    assert told(where=places(DECISION, "layer", "another")) == ["another reader: 'another' reads 'x'"]
    assert told(where=places(DECISION, "layer", "lost")) == []  # it was told of where its place was looked for
    twice = (PAIR, replace(PAIR, layer="another", reader="another reader"))
    assert told(pairs=twice) == ["another reader: 'another' reads 'x'"]


def test_weights_are_integers_where_the_plan_says_so_and_nowhere_else() -> None:
    assert told(weights=()) == ["reader: weight of 'layer'"]
    assert told(nodes=(replace(NODE, quantize=False),)) == ["dq: weight of 'layer'"]
    assert told(weights=(WEIGHT, replace(WEIGHT, layer="another"))) == ["dq: weight of 'another'"]
    assert told(weights=(), nodes=(replace(NODE, node="lost"),)) == []


@pytest.mark.parametrize(
    ("change", "largest", "what"),
    [
        ({}, 127, []),
        ({"weight": "v"}, 127, ["dq: weight of 'layer'"]),
        ({"weight_axis": 1}, 127, ["dq: weight of 'layer'"]),
        ({"weight_bits": None}, 127, []),
        ({"weight_bits": 7}, 127, ["dq: bits of 'layer'"]),
        ({"weight_bits": 7}, 63, []),
        ({}, 63, ["dq: bits of 'layer'"]),
        ({}, 64, []),
        ({}, 0, []),
    ],
)
def test_a_weight_has_the_name_axis_and_bits_of_the_plan(
    change: dict[str, object], largest: int, what: list[str]
) -> None:
    weight = replace(WEIGHT, integers=np.array([[largest, 0, 0], [-largest, 0, 0]], np.int8))
    assert told(weights=[weight], nodes=[replace(NODE, **change)]) == what  # type: ignore[arg-type]


@pytest.mark.parametrize(("scale", "zero", "passed"), [(1.0, 0, True), (1.01, 0, False), (1.0, 1, False)])
def test_a_grid_has_the_plans_scale_and_zero_point(scale: float, zero: int, passed: bool) -> None:
    step, point = grid_of(DECISION, STORED, np.float32)
    zeros = np.array(int(point) + zero, STORED.integers)
    value = np.float32(step * scale).reshape(())
    pair = replace(PAIR, scales=(value, value), zeros=(zeros, zeros), types=(STORED.integers, STORED.integers))
    found = told(pairs=[pair], placement=STORED)
    assert found == ([] if passed else ["q: grid of 'x'"])
