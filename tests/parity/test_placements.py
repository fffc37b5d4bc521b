"""A graph of any placement is proven against its parent and its plan, and no fault of it passes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from linglos_deploy.artifacts import load_onnx
from linglos_deploy.choices import Precision
from linglos_deploy.parity.structure import prove
from linglos_deploy.quantization.apply import apply_plan
from linglos_deploy.quantization.placement import find_placement, placement_names
from linglos_deploy.quantization.plan import QuantPlan, plan_quantization
from linglos_deploy.quantization.scheme import QuantScheme
from tests.quantization.graphs import attention_model, calibrated

Case = tuple[onnx.ModelProto, QuantPlan, dict[str, onnx.ModelProto]]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("placements")
    artifact, table = calibrated(attention_model(), folder / "m.onnx")
    plan = plan_quantization(artifact, table, QuantScheme())
    graphs = {
        name: load_onnx(apply_plan(artifact, plan, out=folder / f"{name}.onnx", placement=find_placement(name)).path)
        for name in placement_names()
    }
    return load_onnx(artifact.path), plan, graphs


@pytest.mark.parametrize("name", placement_names())
def test_a_graph_of_every_placement_is_its_parent_and_its_plan_and_of_no_other_placement(case: Case, name: str) -> None:
    parent, plan, graphs = case
    proof = prove(parent, graphs[name], Precision.INT8, plan=plan, placement=find_placement(name))
    assert proof.passed, proof.differences
    assert proof.weights == len(plan.quantized_nodes)
    for other in set(placement_names()) - {name}:
        if graphs[other].graph.node == graphs[name].graph.node:  # no residual sum ends in integers here
            assert {name, other} == {"tensorrt", "tensorrt-residual"}
            continue
        assert not prove(parent, graphs[name], Precision.INT8, plan=plan, placement=find_placement(other)).passed


def stored(model: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(change(values).astype(values.dtype), name))
            return
    raise AssertionError(name)


def moved(model: onnx.ModelProto, name: str, amount: int) -> None:
    """Move one zero point, in both halves of its pair alike."""
    stored(model, name, lambda value: value + amount)


def one_half(model: onnx.ModelProto) -> None:
    """Give the second half of a pair a zero point of its own."""
    node = next(it for it in model.graph.node if it.op_type == "DequantizeLinear" and it.input[0] == "act/uint8")
    model.graph.initializer.append(numpy_helper.from_array(np.uint8(7), "other"))
    node.input[2] = "other"


def unrounded(model: onnx.ModelProto, reader: str) -> None:
    """Let one reader of a stored result read it as it was before it was rounded."""
    node = next(it for it in model.graph.node if it.name == reader)
    for index, name in enumerate(node.input):
        node.input[index] = name.removesuffix("/dequantized")


def swapped_bias(model: onnx.ModelProto) -> None:
    """Give a layer the float bias that its parent has."""
    node = next(it for it in model.graph.node if it.name == "n0")
    bias = next(it for it in attention_model().graph.initializer if it.name == "b0")
    model.graph.initializer.append(bias)
    node.input[2] = "b0"


def bias_off_zero(model: onnx.ModelProto) -> None:
    """Let another integer than 0 stand for no bias."""
    stored(model, "n3/bias/zero_point", lambda values: values + 1)


FAULTS: dict[str, Callable[[onnx.ModelProto], None]] = {
    "a zero point moves": lambda model: moved(model, "act/zero_point", 1),
    "a scale grows": lambda model: stored(model, "stem/scale", lambda value: value * 1.001),
    "halves of a pair differ": one_half,
    "a reader reads what was not rounded": lambda model: unrounded(model, "n1"),
    "a bias is wrong": lambda model: stored(model, "n0/bias/int32", lambda values: values + 2),
    "a bias has other steps": lambda model: stored(model, "n0/bias/scale", lambda values: values * 1.01),
    "a bias has a zero point": bias_off_zero,
    "a bias stays in floating point": swapped_bias,
    "a weight is wrong": lambda model: stored(model, "w1/int8", lambda values: values + 3),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_of_grids_biases_or_places_is_proven(case: Case, fault: str) -> None:
    parent, plan, graphs = case
    faulty = onnx.ModelProto()
    faulty.CopyFrom(graphs["onnxruntime-x86"])
    FAULTS[fault](faulty)
    assert not prove(parent, faulty, Precision.INT8, plan=plan, placement=find_placement("onnxruntime-x86")).passed


def test_a_pair_that_neither_plan_nor_placement_asks_for_is_a_difference(case: Case) -> None:
    parent, plan, graphs = case
    faulty = onnx.ModelProto()
    faulty.CopyFrom(graphs["onnxruntime-x86"])
    softmax = next(index for index, it in enumerate(faulty.graph.node) if it.name == "n6")
    wanted = faulty.graph.node[softmax].input[0]
    pair = [
        helper.make_node("QuantizeLinear", [wanted, "stem/scale", "stem/zero_point"], ["extra"], "q"),
        helper.make_node("DequantizeLinear", ["extra", "stem/scale", "stem/zero_point"], ["extra/d"], "d"),
    ]
    faulty.graph.node[softmax].input[0] = "extra/d"
    nodes = [*faulty.graph.node[:softmax], *pair, *faulty.graph.node[softmax:]]
    del faulty.graph.node[:]
    faulty.graph.node.extend(nodes)
    proof = prove(parent, faulty, Precision.INT8, plan=plan, placement=find_placement("onnxruntime-x86"))
    assert [found.what for found in proof.differences] == [f"'{wanted}' is rounded"]
