"""One softmax is like another; what it is fed by and what it feeds tells them apart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx import helper

from linglos_deploy.graph.passes.running import read_ir
from linglos_deploy.graph.saliency import gate_behind, gate_fed_by, is_gate
from tests.quantization.graphs import graph_of

M = np.ones((4, 4), np.float32)
SCALE = np.float32(0.5)


def model_of(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    weights: Mapping[str, np.ndarray] = {"m": M, "scale": np.asarray(SCALE), "split": np.array([2, 2])}
    return graph_of(nodes, weights, rank=3)


def softmax_is_gate(nodes: list[onnx.NodeProto]) -> bool:
    graph = read_ir(model_of(nodes)).graph
    return is_gate(next(node for node in graph if node.op_type in {"Softmax", "Exp"}))


def node(op_type: str, inputs: str, outputs: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs.split(), outputs.split(), f"{outputs.split()[0]}/{op_type}", **attributes)


QKV = [node("MatMul", "x m", "q"), node("MatMul", "x m", "k"), node("MatMul", "x m", "v"), node("Transpose", "k", "kt")]
OUT = [node("MatMul", "a v", "context"), node("MatMul", "context m", "y")]


@pytest.mark.parametrize(
    "scores",
    [
        [node("MatMul", "q kt", "s")],
        [node("MatMul", "q kt", "raw"), node("Mul", "raw scale", "scaled"), node("Add", "scaled x", "s")],
        [node("Mul", "q scale", "small"), node("MatMul", "small kt", "raw"), node("Where", "q raw v", "s")],
        [node("MatMul", "q kt", "raw"), node("MatMul", "raw m", "s")],  # heads that talk to each other
        [node("Einsum", "q k", "s", equation="bid,bjd->bij")],
    ],
    ids=["plain", "biased", "masked", "talking heads", "einsum"],
)
def test_the_softmax_of_pairwise_attention_is_no_gate(scores: list[onnx.NodeProto]) -> None:
    attention = [*QKV, *scores, node("Softmax", "s", "a"), *OUT]
    assert not softmax_is_gate(attention)
    graph = read_ir(model_of(attention)).graph
    assert all(gate_behind(value) is None for each in graph for value in each.inputs if value is not None)
    assert all(gate_fed_by(each.outputs[0]) is None for each in graph)


@pytest.mark.parametrize(
    "pooling",
    [
        [node("MatMul", "a v", "y")],
        [node("Transpose", "a", "row"), node("MatMul", "row v", "y")],
        [node("Mul", "a v", "weighted"), node("ReduceSum", "weighted", "y")],
        [node("Mul", "v a", "weighted"), node("ReduceMean", "weighted", "y")],
        [node("Mul", "a scale", "scaled"), node("MatMul", "scaled v", "y")],
        [node("Einsum", "a v", "y", equation="bni,bnj->bij")],
        [node("MatMul", "a m", "y")],  # weighted by constants, as a distribution over bins is
    ],
)
def test_a_softmax_of_a_linear_map_that_is_summed_with_something_is_a_gate(pooling: list[onnx.NodeProto]) -> None:
    assert softmax_is_gate(
        [node("MatMul", "x m", "s"), node("MatMul", "x m", "v"), node("Softmax", "s", "a"), *pooling]
    )


@pytest.mark.parametrize(
    "answer",
    [
        [node("Softmax", "s", "y")],
        [node("Softmax", "s", "a"), node("ReduceMax", "a", "y")],
        [node("Softmax", "s", "a"), node("Mul", "a scale", "y")],
        [node("Sub", "s x", "d"), node("Exp", "d", "e"), node("ReduceSum", "e", "n"), node("Div", "e n", "y")],
        [node("Exp", "s", "e"), node("Mul", "e x", "box"), node("MatMul", "box m", "y")],
        [node("LogSoftmax", "s", "y")],
    ],
    ids=["head", "best", "scaled", "in pieces", "sizes of boxes", "logarithms"],
)
def test_a_softmax_that_answers_is_no_gate(answer: list[onnx.NodeProto]) -> None:
    graph = read_ir(model_of([node("MatMul", "x m", "s"), *answer])).graph
    assert gate_fed_by(graph[0].outputs[0]) is None


def test_scores_are_followed_through_factors_but_not_through_a_layer_that_makes_more() -> None:
    pooled = [node("Softmax", "s", "a"), node("MatMul", "a x", "y")]
    through = [node("MatMul", "x m", "raw"), node("Div", "raw scale", "small"), node("Reshape", "small split", "s")]
    assert gate_fed_by(read_ir(model_of([*through, *pooled])).graph[0].outputs[0]) is not None
    shared = [node("MatMul", "x m", "raw"), node("Split", "raw split", "s rest", axis=-1)]
    assert gate_fed_by(read_ir(model_of([*shared, *pooled])).graph[0].outputs[0]) is None
