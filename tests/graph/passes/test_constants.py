from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.graph.links import constant_array
from linglos_deploy.graph.passes.constants import add_constant, free_names


def branching_graph() -> ir.Graph:
    """A graph whose If has the names ``inside``, ``w`` and ``unread`` in its branches; ``c`` is a Constant node."""
    value = helper.make_tensor_value_info
    branch = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["inside"])],
        "branch",
        [],
        [value("inside", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.ones(2, np.float32), name) for name in ("w", "unread")],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["c"], value_floats=[3.0, 4.0]),
            helper.make_node("If", ["ask"], ["y"], "choose", then_branch=branch, else_branch=branch),
        ],
        "g",
        [value("x", TensorProto.FLOAT, [2]), value("ask", TensorProto.BOOL, [])],
        [value("y", TensorProto.FLOAT, [2]), value("c", TensorProto.FLOAT, [2])],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])).graph


def test_constants_are_initializers_and_constant_nodes() -> None:
    graph = branching_graph()
    added = add_constant(graph, "s", np.float16([1, 2]))
    assert constant_array(added).dtype == np.float16
    assert constant_array(graph[0].outputs[0]).tolist() == [3.0, 4.0]
    assert constant_array(graph.inputs[0]) is None
    assert constant_array(None) is None


@pytest.mark.parametrize("taken", ["x", "c", "y", "choose", "inside", "w", "unread"])
def test_a_name_that_stands_anywhere_is_not_given_away_again(taken: str) -> None:
    names = free_names(branching_graph())
    assert [names(taken), names(taken), names("new")] == [f"{taken}_2", f"{taken}_3", "new"]
