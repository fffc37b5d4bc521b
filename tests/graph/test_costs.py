from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from linglos_deploy.graph.costs import Cost, cost


def node_of(node: onnx.NodeProto, shapes: dict[str, list[int | str]], opset: int = 23) -> ir.Node:
    """Return ``node`` in a graph whose tensors have these shapes, all float32."""
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    graph = helper.make_graph(
        [node], "g", [values[name] for name in node.input if name], [values[name] for name in node.output]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    return ir.from_proto(model).graph[0]


@pytest.mark.parametrize(
    ("node", "shapes", "macs"),
    [
        (
            helper.make_node("Conv", ["x", "w"], ["y"], group=2),
            {"x": [2, 4, 5, 5], "w": [6, 2, 3, 3], "y": [2, 6, 3, 3]},
            2 * 6 * 3 * 3 * 2 * 9,
        ),
        (
            helper.make_node("ConvTranspose", ["x", "w"], ["y"]),
            {"x": [1, 4, 5], "w": [4, 3, 2], "y": [1, 3, 6]},
            4 * 5 * 3 * 2,
        ),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), {"x": [2, 7, 3], "w": [3, 5], "y": [2, 7, 5]}, 2 * 7 * 3 * 5),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), {"x": [3], "w": [3, 5], "y": [5]}, 15),
        (
            helper.make_node("Gemm", ["x", "w"], ["y"], transA=1),
            {"x": [3, 7], "w": [3, 5], "y": [7, 5]},
            3 * 7 * 5,
        ),
        (
            helper.make_node("Einsum", ["x", "w"], ["y"], equation="bij, bjk -> bik"),
            {"x": [2, 3, 4], "w": [2, 4, 5], "y": [2, 3, 5]},
            2 * 3 * 4 * 5,
        ),
        (
            helper.make_node("Attention", ["q", "k", "v"], ["y"]),
            {"q": [2, 4, 3, 8], "k": [2, 4, 5, 8], "v": [2, 4, 5, 6], "y": [2, 4, 3, 6]},
            2 * 4 * 3 * 5 * (8 + 6),
        ),
        (
            helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=3),
            {"x": [7, 2, 4], "w": [1, 12, 4], "r": [1, 12, 3], "y": [7, 1, 2, 3]},
            7 * 2 * 12 * (4 + 3),
        ),
        (helper.make_node("Relu", ["x"], ["y"]), {"x": [3, 4], "y": [3, 4]}, 0),
    ],
    ids=lambda value: value.op_type if isinstance(value, onnx.NodeProto) else "",
)
def test_multiplications_are_those_of_the_definition(
    node: onnx.NodeProto, shapes: dict[str, list[int | str]], macs: int
) -> None:
    assert cost(node_of(node, shapes)).macs == macs


def test_bytes_are_those_of_every_tensor_once() -> None:
    square = node_of(helper.make_node("Mul", ["x", "x"], ["y"]), {"x": [3, 4], "y": [3, 4]})
    assert cost(square) == Cost(macs=0, bytes=2 * 12 * 4)


def test_what_depends_on_an_open_size_is_not_made_up() -> None:
    node = node_of(helper.make_node("MatMul", ["x", "w"], ["y"]), {"x": ["n", 3], "w": [3, 5], "y": ["n", 5]})
    assert cost(node) == Cost(macs=None, bytes=None)


def test_an_unknown_operator_has_no_count() -> None:
    node = node_of(helper.make_node("Twist", ["x"], ["y"], domain="com.example"), {"x": [3], "y": [3]})
    assert cost(node) == Cost(macs=None, bytes=24)
