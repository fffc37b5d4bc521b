"""Which tensors are worth observing."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.calibration.targets import quantizable_activations
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
