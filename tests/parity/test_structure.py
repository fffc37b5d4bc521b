"""A derived graph that is not its parent is seen without running it, and the verdict names the layer."""

from __future__ import annotations

import json

import onnx
import pytest

from linglos_deploy.choices import Precision
from linglos_deploy.codec import from_json, to_json
from linglos_deploy.parity.structure import prove
from linglos_deploy.quantization.plan import QuantPlan
from linglos_deploy.reports.parity import StructuralProof
from tests.parity.conftest import Digits
from tests.parity.faults.floating import FLOAT_FAULTS
from tests.parity.faults.integer import INTEGER_FAULTS
from tests.parity.faults.planting import Fault

pytestmark = pytest.mark.xdist_group("digits")

DERIVED = (Precision.INT8, Precision.INT8_FP16, Precision.FP16)


def plan_of(digits: Digits, precision: Precision) -> QuantPlan | None:
    return QuantPlan.load(digits.bundles[precision] / "plan.json") if precision.is_int8 else None


def faults_of(precision: Precision) -> tuple[Fault, ...]:
    return (*FLOAT_FAULTS, *INTEGER_FAULTS) if precision.is_int8 else FLOAT_FAULTS


@pytest.mark.parametrize("precision", DERIVED)
def test_a_clean_graph_is_its_parent(digits: Digits, precision: Precision) -> None:
    parent, graph = onnx.load(digits.graph(Precision.FP32)), onnx.load(digits.graph(precision))
    proof = prove(parent, graph, precision, plan=plan_of(digits, precision))
    assert proof.passed, proof.differences
    assert proof.nodes == len(parent.graph.node)
    assert (proof.weights > 30) == precision.is_int8
    assert from_json(StructuralProof, to_json(proof), source="test") == proof


@pytest.mark.parametrize("precision", DERIVED)
def test_every_planted_fault_is_seen_and_its_layer_named(digits: Digits, precision: Precision) -> None:
    parent, graph = onnx.load(digits.graph(Precision.FP32)), onnx.load(digits.graph(precision))
    plan = plan_of(digits, precision)
    unseen, elsewhere, planted = [], [], 0
    for fault in faults_of(precision):
        faulty = fault.plant(graph)
        if faulty is None:
            continue
        planted += 1
        proof = prove(parent, faulty, precision, plan=plan)
        if proof.passed:
            unseen.append(str(fault))
        elif fault.layer is not None and proof.differences[0].layer != fault.layer:
            elsewhere.append((str(fault), fault.layer, proof.differences[0]))
    assert not unseen
    assert not elsewhere
    assert planted >= (45 if precision is Precision.FP16 else 70)


def test_a_graph_is_proven_by_its_wiring_although_its_nodes_have_other_names(digits: Digits) -> None:
    parent, graph = onnx.load(digits.graph(Precision.FP32)), onnx.load(digits.graph(Precision.FP16))
    for index, node in enumerate(graph.graph.node):
        node.name = f"node_{index}"
    assert prove(parent, graph, Precision.FP16).passed


def test_without_a_plan_consistent_scales_are_taken_as_they_are_and_halves_of_a_pair_are_not(digits: Digits) -> None:
    parent, graph = onnx.load(digits.graph(Precision.FP32)), onnx.load(digits.graph(Precision.INT8))
    faults = {str(fault): fault for fault in INTEGER_FAULTS}
    whole, half = (faults[name].plant(graph) for name in ("scale_by_two", "q_scale_by_two"))
    assert whole is not None
    assert half is not None
    assert prove(parent, whole, Precision.INT8).passed
    assert not prove(parent, half, Precision.INT8).passed


@pytest.mark.parametrize("what", ["bound", "consumers", "weight_bits", "quantize", "scale"])
def test_an_edited_plan_is_no_excuse(digits: Digits, what: str) -> None:
    parent, graph = onnx.load(digits.graph(Precision.FP32)), onnx.load(digits.graph(Precision.INT8))
    content = json.loads((digits.bundles[Precision.INT8] / "plan.json").read_text())
    tensor = next(found for found in content["tensors"] if found["quantize"])
    node = next(found for found in content["nodes"] if found["quantize"])
    if what == "bound":
        tensor["bound"] *= 1.5
    elif what == "scale":
        tensor["scale"] *= 1.01
    elif what == "consumers":
        tensor["consumers"] = []
    elif what == "weight_bits":
        node["weight_bits"] = 7
    else:
        node["quantize"] = False
    plan = from_json(QuantPlan, json.dumps(content).encode(), source="test")
    assert not prove(parent, graph, Precision.INT8, plan=plan).passed


def test_an_attribute_that_is_left_out_is_its_default(digits: Digits) -> None:
    parent, graph = onnx.load(digits.graph(Precision.FP32)), onnx.load(digits.graph(Precision.INT8))
    for node in graph.graph.node:
        if node.op_type == "Gelu":
            del node.attribute[:]
    assert prove(parent, graph, Precision.INT8).passed
