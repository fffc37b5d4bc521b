"""Which tensors are worth observing."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.calibration.targets import convolution_results, quantizable_activations, rounded_tensors
from tests.quantization.graphs import branching_model, graph_of


def _model(nodes, *, dtype=TensorProto.FLOAT):
    weight = numpy_helper.from_array(np.ones((4, 4), helper.tensor_dtype_to_np_dtype(dtype)), "w")
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, dtype, [4, 4]) for name in ("x", "y")],
        [helper.make_tensor_value_info("out", dtype, [4, 4])],
        initializer=[weight],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("other", 1)], ir_version=10
    )


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [(("x", "w"), ("x",)), (("w", "y"), ("y",)), (("x", "y"), ()), (("w", "w"), ())],
)
def test_a_matmul_is_observed_where_its_other_side_is_constant(inputs, expected):
    assert quantizable_activations(_model([helper.make_node("MatMul", inputs, ["out"])])) == expected


def test_a_tensor_with_two_readers_is_named_once():
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"]),
        helper.make_node("MatMul", ["x", "w"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["out"]),
    ]
    assert quantizable_activations(_model(nodes)) == ("x",)


def test_tensors_that_are_not_float32_and_foreign_operators_are_left_out():
    assert (
        quantizable_activations(_model([helper.make_node("MatMul", ["x", "w"], ["out"])], dtype=TensorProto.FLOAT16))
        == ()
    )
    assert quantizable_activations(_model([helper.make_node("Gemm", ["x", "w"], ["out"], domain="other")])) == ()


def test_what_only_layers_in_bodies_of_control_flow_read_is_not_observed() -> None:
    assert quantizable_activations(branching_model()) == ("x", "b")


def test_a_transposed_convolution_is_observed_like_any_other_layer() -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"])
    assert quantizable_activations(graph_of([node], {"w": np.ones((4, 2, 2, 2), np.float32)})) == ("x",)


def test_what_convolutions_leave_behind_is_seen_behind_what_clips_it_but_not_at_the_end() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w"], ["c"]),
        helper.make_node("Gelu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "w"], ["e"]),
    ]
    model = graph_of(nodes, {"w": np.ones((4, 4, 1, 1), np.float32)})
    assert convolution_results(model) == ("b", "c")
    assert rounded_tensors(model) == ("x", "b", "d", "c")


def test_a_clip_belongs_to_the_convolution_only_where_nothing_else_reads_what_it_clips() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Clip", ["a", "low", "high"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
    ]
    limits = {"low": np.float32(0), "high": np.float32(6)}
    model = graph_of(nodes, {"w": np.ones((4, 4, 1, 1), np.float32), **{k: np.asarray(v) for k, v in limits.items()}})
    assert convolution_results(model) == ("a",)
