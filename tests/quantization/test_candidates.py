from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from linglos_deploy.quantization.candidates import Candidate, find_candidates
from tests.quantization.graphs import attention_model, branching_model, graph_of

W = np.ones((4, 4, 1, 1), np.float32)
M = np.ones((4, 4), np.float32)
SHAPE = np.array([0, 0, -1], np.int64)


def by_node(candidates: tuple[Candidate, ...]) -> dict[str, Candidate]:
    return {candidate.node: candidate for candidate in candidates}


def test_every_convolution_and_linear_layer_is_found_with_its_channel_axis() -> None:
    found = by_node(find_candidates(attention_model()))

    assert list(found) == ["n0", "n2", "n3", "n4", "n8", "n13", "n17", "n18"]
    assert {node: candidate.weight_axis for node, candidate in found.items() if candidate.weight_axis} == {"n17": 1}
    assert all(candidate.possible for candidate in found.values())


@pytest.mark.parametrize(("inputs", "outputs", "narrow"), [(16, 16, False), (15, 16, True), (16, 15, True)])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_linear_layer_is_narrow_below_16_inputs_or_outputs(
    inputs: int, outputs: int, narrow: bool, transposed: bool
) -> None:
    weight = np.ones((outputs, inputs) if transposed else (inputs, outputs), np.float32)
    gemm = helper.make_node("Gemm", ["x", "w"], ["y"], "gemm", transB=int(transposed))
    (found,) = find_candidates(graph_of([gemm], {"w": weight}, rank=2))
    assert (found.narrow is not None) is narrow
    assert not narrow or f"{inputs} x {outputs}" in str(found.narrow)
    assert found.possible


def test_convolutions_are_never_narrow() -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["y"], "conv")
    assert by_node(find_candidates(graph_of([conv], {"w": W})))["conv"].narrow is None


def test_the_gate_is_recognised_by_what_it_feeds_not_by_its_name() -> None:
    found = by_node(find_candidates(attention_model()))

    assert [node for node, candidate in found.items() if candidate.obstacle] == ["n4"]
    assert "saliency gate: 'n6'" in (found["n4"].obstacle or "")


def test_a_gate_in_late_normalised_form_is_recognised_and_so_is_what_reads_the_pooled_sum() -> None:
    """``e = exp(S - max S)``, ``P = mean(e X) / mean(e)``, as float16 needs it."""
    model = graph_of(
        [
            helper.make_node("Conv", ["x", "w"], ["s"], "gate"),
            helper.make_node("Reshape", ["s", "shape"], ["flat"]),
            helper.make_node("ReduceMax", ["flat"], ["peak"]),
            helper.make_node("Sub", ["flat", "peak"], ["below"]),
            helper.make_node("Exp", ["below"], ["e"]),
            helper.make_node("Reshape", ["x", "shape"], ["positions"]),
            helper.make_node("Mul", ["e", "positions"], ["weighted"]),
            helper.make_node("ReduceMean", ["weighted"], ["mean"]),
            helper.make_node("ReduceMean", ["e"], ["norm"]),
            helper.make_node("Div", ["mean", "norm"], ["pooled"]),
            helper.make_node("MatMul", ["pooled", "m"], ["context"], "value"),
            helper.make_node("MatMul", ["context", "m"], ["y"], "after"),
        ],
        {"w": W, "m": M, "shape": SHAPE},
    )
    found = by_node(find_candidates(model))

    assert "saliency gate" in (found["gate"].obstacle or "")
    assert "attention weights" in (found["value"].obstacle or "")
    assert found["after"].obstacle is None


def test_a_linear_layer_on_the_attention_weights_or_their_pooled_sum_stays_out() -> None:
    model = graph_of(
        [
            helper.make_node("Softmax", ["x"], ["a"], "soft"),
            helper.make_node("MatMul", ["a", "m"], ["direct"], "direct"),
            helper.make_node("MatMul", ["x", "a"], ["pooled"], "pool"),
            helper.make_node("Transpose", ["pooled"], ["turned"]),
            helper.make_node("MatMul", ["turned", "m"], ["y"], "value"),
        ],
        {"m": M},
    )
    found = by_node(find_candidates(model))

    assert list(found) == ["direct", "value"]  # a product of two computed tensors is no linear layer
    assert all("attention weights of 'soft'" in (candidate.obstacle or "") for candidate in found.values())


def test_a_product_of_weights_stays_out() -> None:
    """``M = (Wo diag(G)) Wk`` of the reassociated form: both factors are weights."""
    model = graph_of(
        [
            helper.make_node("Mul", ["m", "x"], ["scaled"]),
            helper.make_node("MatMul", ["scaled", "k"], ["y"], "product"),
        ],
        {"m": M, "k": M},
    )
    assert "product with the weights 'm'" in (by_node(find_candidates(model))["product"].obstacle or "")


def test_scaling_each_channel_is_no_product_of_weights() -> None:
    model = graph_of(
        [
            helper.make_node("Mul", ["x", "gamma"], ["scaled"]),
            helper.make_node("Conv", ["scaled", "w"], ["y"], "conv"),
        ],
        {"gamma": np.ones((1, 4, 1, 1), np.float32), "w": W},
    )
    assert by_node(find_candidates(model))["conv"].obstacle is None


@pytest.mark.parametrize(
    ("node", "weight", "reason"),
    [
        (helper.make_node("MatMul", ["x", "w"], ["y"], "n"), np.ones((2, 4, 4), np.float32), "3 axes"),
        (helper.make_node("MatMul", ["w", "x"], ["y"], "n"), M, "left factor"),
        (helper.make_node("Gemm", ["x", "w"], ["y"], "n", transA=1), M, "transposes its data"),
        (helper.make_node("Conv", ["x", "x"], ["y"], "n"), M, "not constant"),
        (helper.make_node("MatMul", ["x", "w"], ["y"], "n"), M.astype(np.int32), "int32"),
    ],
)
def test_what_int8_kernels_do_not_do_is_named(node: object, weight: np.ndarray, reason: str) -> None:
    (found,) = find_candidates(graph_of([node], {"w": weight}))  # type: ignore[list-item]
    assert reason in (found.obstacle or "")


def test_a_node_without_a_name_goes_by_its_output_and_foreign_domains_are_left_alone() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"]),
        helper.make_node("Conv", ["y", "w"], ["z"], domain="com.example"),
    ]
    assert [candidate.node for candidate in find_candidates(graph_of(nodes, {"w": W}))] == ["y"]


def test_layers_in_bodies_of_control_flow_stay_in_floating_point_and_it_is_said() -> None:
    found = by_node(find_candidates(branching_model()))

    assert {node for node, candidate in found.items() if candidate.obstacle} == {"then", "nested", "else"}
    assert not found["nested"].possible
    assert found["nested"].obstacle == "it stands in the body of 'choose', which calibration does not look into"


def test_the_output_projection_of_pairwise_attention_is_a_layer_like_any_other() -> None:
    model = graph_of(
        [
            helper.make_node("MatMul", ["x", "m"], ["q"], "query"),
            helper.make_node("MatMul", ["x", "m"], ["v"], "value"),
            helper.make_node("MatMul", ["q", "v"], ["s"], "scores"),
            helper.make_node("Softmax", ["s"], ["a"], "soft"),
            helper.make_node("MatMul", ["a", "v"], ["context"], "mean"),
            helper.make_node("MatMul", ["context", "m"], ["y"], "out"),
        ],
        {"m": M},
    )
    assert {node: candidate.obstacle for node, candidate in by_node(find_candidates(model)).items()} == {
        "query": None,
        "value": None,
        "out": None,
    }


@pytest.mark.parametrize("answer", ["Softmax", "LogSoftmax"])
def test_a_head_that_ends_in_a_softmax_is_a_layer_like_any_other(answer: str) -> None:
    nodes = [helper.make_node("MatMul", ["x", "m"], ["s"], "head"), helper.make_node(answer, ["s"], ["y"], "answer")]
    assert by_node(find_candidates(graph_of(nodes, {"m": M})))["head"].obstacle is None
