from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.errors import ExportError
from linglos_deploy.graph import topology as g


def _model() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["a"], name="mul"),
        helper.make_node("Add", ["a", "a"], ["b"], name="add"),
        helper.make_node("Relu", ["a"], ["unused"], name="dead"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, ["batch", 2])],
        [value("b", TensorProto.FLOAT, ["batch", 2])],
        [
            numpy_helper.from_array(np.ones(2, np.float32), "w"),
            numpy_helper.from_array(np.ones(2, np.float32), "nobody"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def test_producers_and_consumers_name_the_nodes_at_both_ends():
    graph = _model().graph
    assert g.producers(graph)["a"].name == "mul"
    assert [node.name for node in g.consumers(graph)["a"]] == ["add", "dead"]


def test_what_the_inside_of_an_if_reads_is_not_dead():
    value = helper.make_tensor_value_info
    branch = helper.make_graph(
        [helper.make_node("Relu", ["inner"], ["c"], name="relu")], "b", [], [value("c", TensorProto.FLOAT, None)]
    )
    outer = helper.make_graph([], "o", [], [value("other", TensorProto.FLOAT, None)])
    nodes = [
        helper.make_node("Abs", ["x"], ["inner"], name="abs"),
        helper.make_node("Neg", ["x"], ["other"], name="neg"),
        helper.make_node("Sqrt", ["x"], ["nobody"], name="sqrt"),
        helper.make_node("If", ["yes"], ["y"], name="if", then_branch=branch, else_branch=outer),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, [2]), value("yes", TensorProto.BOOL, [])],
        [value("y", TensorProto.FLOAT, [2])],
    )
    assert g.remove_dead(graph)
    assert [node.name for node in graph.node] == ["abs", "neg", "if"]


def test_constants_include_constant_nodes():
    model = _model()
    model.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.float32(3))))
    found = g.constants(model.graph)
    assert g.constant_array(found, "c") == 3
    assert g.constant_array(found, "x") is None


def test_shapes_keep_symbolic_names():
    shapes = g.value_shapes(_model())
    assert shapes["a"] == ("batch", 2)
    assert shapes["w"] == (2,)
    assert g.value_types(_model())["a"] == TensorProto.FLOAT


def test_dead_nodes_and_weights_go():
    model = _model()
    assert g.remove_dead(model.graph)
    assert [node.name for node in model.graph.node] == ["mul", "add"]
    assert [tensor.name for tensor in model.graph.initializer] == ["w"]
    assert not g.remove_dead(model.graph)


def test_order_puts_makers_before_readers_and_moves_nothing_else():
    nodes = list(_model().graph.node)
    assert [node.name for node in g.topological_order(reversed(nodes))] == ["mul", "dead", "add"]
    assert [node.name for node in g.topological_order(nodes)] == ["mul", "add", "dead"]


def test_a_cycle_is_named():
    nodes = [helper.make_node("Relu", ["b"], ["a"], name="one"), helper.make_node("Relu", ["a"], ["b"], name="two")]
    with pytest.raises(ExportError, match="'one' is part of a cycle"):
        g.topological_order(nodes)


def test_attributes_are_found_by_name():
    node = helper.make_node("Gemm", ["a", "b"], ["c"], alpha=0.5)
    assert g.attribute(node, "alpha").f == 0.5
    assert g.attribute(node, "beta") is None
