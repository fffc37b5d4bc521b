from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from linglos_deploy.graph.passes.reshape_targets import FixReshapeTargets
from linglos_deploy.graph.passes.running import run_passes


def reshape_model(before: list[str | int], after: list[str | int]) -> onnx.ModelProto:
    """A Reshape to ``after``; its target is computed from the shape of its input."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Slice", ["s", "zero", "two"], ["head"]),
        helper.make_node("Concat", ["head", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"], allowzero=1),
    ]
    fixed = {"zero": [0], "two": [2], "rest": [-1]}
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, before)],
        [value("y", TensorProto.FLOAT, after)],
        [numpy_helper.from_array(np.array(numbers, np.int64), name) for name, numbers in fixed.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def test_a_reshape_with_one_open_size_gets_a_constant_target() -> None:
    model = reshape_model(["batch", 8, "h", "w"], ["batch", 8, "h*w"])
    fixed = run_passes(model, FixReshapeTargets())
    assert [node.op_type for node in fixed.graph.node] == ["Reshape"]
    assert {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in fixed.graph.initializer} == {
        "y_target": [0, 8, -1]
    }
    assert not fixed.graph.node[0].attribute
    image = np.random.default_rng(0).normal(size=(2, 8, 3, 5)).astype(np.float32)
    before, after = (ReferenceEvaluator(each).run(None, {"x": image})[0] for each in (model, fixed))
    assert np.array_equal(before, after)


@pytest.mark.parametrize("shapes", [(["n", "c", 3], ["c", "n", 3]), (["n", None, 3], [None, "m", 3])])
def test_a_reshape_with_two_open_sizes_is_left_alone(shapes: tuple[list[str | int], list[str | int]]) -> None:
    model = reshape_model(*shapes)
    assert run_passes(model, FixReshapeTargets()).graph.node == model.graph.node
