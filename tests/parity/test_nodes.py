"""Nodes and constants in a form that can be compared."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.parity.nodes import ComparedGraph, alike, constant_of, numbers_of

VALUES = np.array([1.5, 2.25], np.float32)


def read(*nodes: onnx.NodeProto) -> tuple[ComparedGraph, dict[str, ir.Node]]:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(VALUES, "c")],
    )
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("mine", 1)]
    found = ComparedGraph.of(helper.make_model(graph, opset_imports=imports))
    return found, {str(node.name): node for node in found.graph}


def test_an_attribute_that_is_left_out_has_its_default_and_one_that_is_there_its_own() -> None:
    graph, nodes = read(
        helper.make_node("Gelu", ["x"], ["a"], "plain"),
        helper.make_node("Gelu", ["a"], ["b"], "tanh", approximate="tanh"),
        helper.make_node("Unknown", ["b"], ["y"], "other", domain="mine", sizes=[1, 2]),
    )
    assert graph.attributes(nodes["plain"]) == {"approximate": "none"}
    assert graph.attributes(nodes["tanh"]) == {"approximate": "tanh"}
    assert graph.attributes(nodes["other"]) == {"sizes": (1, 2)}


def test_operators_of_two_domains_are_two_operators() -> None:
    _, nodes = read(
        helper.make_node("Relu", ["x"], ["a"], "one"),
        helper.make_node("Relu", ["a"], ["y"], "two", domain="mine"),
    )
    assert alike(nodes["one"], nodes["one"])
    assert not alike(nodes["one"], nodes["two"])


def test_constants_are_initializers_constant_nodes_and_casts_of_both() -> None:
    _, nodes = read(
        helper.make_node("Constant", [], ["k"], "constant", value=numpy_helper.from_array(VALUES)),
        helper.make_node("Constant", [], ["m"], "mine", domain="mine", value=numpy_helper.from_array(VALUES)),
        helper.make_node("Cast", ["c"], ["half"], "cast", to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["x"], ["lost"], "of x", to=TensorProto.FLOAT16),
        helper.make_node("Add", ["c", "x"], ["y"], "add"),
    )
    initializer, tensor = nodes["add"].inputs
    assert initializer is not None
    assert tensor is not None
    np.testing.assert_array_equal(constant_of(initializer), VALUES)  # type: ignore[arg-type]
    np.testing.assert_array_equal(constant_of(nodes["constant"].outputs[0]), VALUES)  # type: ignore[arg-type]
    assert constant_of(tensor) is None
    assert constant_of(nodes["mine"].outputs[0]) is None
    half = numbers_of(nodes["cast"].outputs[0])
    assert half is not None
    assert half.dtype == np.float16
    assert numbers_of(nodes["of x"].outputs[0]) is None
    assert numbers_of(None) is None
