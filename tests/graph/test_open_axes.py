from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from linglos_deploy.graph.open_axes import clear_empty_names


def graph(*dims: int | str) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    made = helper.make_graph(nodes, "g", [value("x", 1, dims)], [value("y", TensorProto.FLOAT, dims)])
    return helper.make_model(made)


def test_names_that_say_nothing_go_and_those_that_tell_axes_apart_stay() -> None:
    model = graph("batch", 3, "?", "?")
    assert clear_empty_names(model)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param for dim in dims] == ["batch", "", "", ""]
    assert dims[1].dim_value == 3
    assert not clear_empty_names(model)


def test_a_graph_with_real_names_stays_as_it_is() -> None:
    assert not clear_empty_names(graph("batch", 3, "height", "width"))
