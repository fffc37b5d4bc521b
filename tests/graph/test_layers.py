from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.graph.layers import find_layers, is_activation_product
from linglos_deploy.graph.passes.running import read_ir
from tests.quantization.graphs import branching_model, graph_of

M = np.ones((4, 4), np.float32)


def test_a_layer_is_found_whichever_side_its_weight_is_on() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "right"),
        helper.make_node("MatMul", ["w", "a"], ["b"], "left"),
        helper.make_node("Gemm", ["b", "w"], ["c"], "turned", transB=1),
        helper.make_node("MatMul", ["c", "b"], ["d"], "product"),
        helper.make_node("MatMul", ["w", "w"], ["e"], "constants"),
        helper.make_node("Conv", ["w", "w"], ["f"], "constant too"),
        helper.make_node("Conv", ["d", "e"], ["y"], "computed"),
    ]
    layers = find_layers(read_ir(graph_of(nodes, {"w": M})).graph)

    assert [(each.name, each.data.name, each.weight.name, each.constant) for each in layers] == [
        ("right", "x", "w", True),
        ("left", "a", "w", True),
        ("turned", "b", "w", True),
        ("computed", "d", "e", False),
    ]
    assert [each.weight_axis for each in layers[:3]] == [1, 0, 0]


def test_layers_in_bodies_are_found_and_say_where_they_stand() -> None:
    layers = find_layers(read_ir(branching_model()).graph)
    assert [(each.name, each.inside) for each in layers] == [
        ("before", None),
        ("else", "choose"),
        ("then", "choose"),
        ("nested", "choose"),
        ("after", None),
    ]


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (helper.make_node("MatMul", ["x", "x"], ["y"]), True),
        (helper.make_node("Gemm", ["x", "x"], ["y"]), True),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), False),
        (helper.make_node("MatMul", ["w", "x"], ["y"]), False),
        (helper.make_node("Einsum", ["x", "x"], ["y"], equation="ij,jk->ik"), True),
        (helper.make_node("Einsum", ["x", "w"], ["y"], equation="ij,jk->ik"), False),
        (helper.make_node("Conv", ["x", "x"], ["y"]), False),
        (helper.make_node("Mul", ["x", "x"], ["y"]), False),
    ],
)
def test_a_product_of_two_activations_has_no_constant_side(node: object, expected: bool) -> None:
    model = graph_of([node], {"w": M}, rank=2)  # type: ignore[list-item]
    assert is_activation_product(read_ir(model).graph[0]) == expected


def test_a_layer_computes_in_the_type_of_its_data_or_of_its_weight_or_else_in_float32() -> None:
    half = numpy_helper.from_array(np.ones((2, 2), np.float16), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [2, 2])],
        [half],
    )
    layers = find_layers(read_ir(helper.make_model(graph)).graph)
    assert [each.dtype for each in layers] == [ir.DataType.FLOAT16] * 2
