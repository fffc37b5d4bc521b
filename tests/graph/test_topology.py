from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

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


def test_attributes_are_found_by_name():
    node = helper.make_node("Gemm", ["a", "b"], ["c"], alpha=0.5)
    assert g.attribute(node, "alpha").f == 0.5
    assert g.attribute(node, "beta") is None
