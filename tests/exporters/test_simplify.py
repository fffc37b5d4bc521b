from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.artifacts import TorchModel
from linglos_deploy.choices import Weights
from linglos_deploy.exporters import simplify as module
from linglos_deploy.exporters.simplify import simplify
from linglos_deploy.signature import TensorSpec


def graph(nodes: list[onnx.NodeProto], **weights: np.ndarray) -> onnx.ModelProto:
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def scaled(factor: float) -> onnx.ModelProto:
    weight = np.full((4, 3), factor, np.float32)
    return graph([helper.make_node("MatMul", ["x", "w"], ["y"])], w=weight)


def wild(*factors: float) -> onnx.ModelProto:
    """Return the sine of a large multiple of x: the last digits of the product decide."""
    names = [f"f{index}" for index in range(len(factors))]
    steps = ["x", *(f"h{index}" for index in range(len(factors)))]
    nodes = [
        helper.make_node("Mul", [data, name], [result])
        for data, name, result in zip(steps, names, steps[1:], strict=False)
    ]
    nodes.append(helper.make_node("Sin", [steps[-1]], ["y"]))
    return graph(nodes, **{name: np.array([value], np.float32) for name, value in zip(names, factors, strict=True)})


@pytest.fixture
def model() -> TorchModel:
    return TorchModel(
        module=None,  # type: ignore[arg-type]
        name="x",
        output_names=("y",),
        preprocess=None,
        labels=(),
        size_divisor=1,
        digest="",
        weights=Weights.RANDOM,
        lineage=(),
        inputs=(TensorSpec("x", "float32", ("batch", 4)),),
    )


def test_a_graph_that_still_computes_the_same_is_taken(model):
    found = simplify(scaled(2.0), model)
    assert found.warnings == ()
    assert [node.op_type for node in found.graph.graph.node] == ["MatMul"]


def test_a_graph_that_computes_something_else_is_left_as_it_was_with_numbers(model, monkeypatch):
    monkeypatch.setattr(module, "shorten", lambda _: scaled(2.01))
    before = scaled(2.0)
    found = simplify(before, model)
    assert found.graph is before
    assert "output 'y' differs by 5.0e-03 of its largest value" in found.warnings[0]


def test_what_a_tiny_change_of_the_input_does_too_is_rounding(model, monkeypatch):
    monkeypatch.setattr(module, "shorten", lambda _: wild(300.0, 300.0))
    before = wild(90000.0)
    after = simplify(before, model)
    assert after.warnings == ()
    assert after.graph is not before


def test_another_shape_or_other_infinities_are_a_change(model, monkeypatch):
    infinite = scaled(2.0)
    infinite.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((4, 3), np.inf, np.float32), "w"))
    wider = graph([helper.make_node("MatMul", ["x", "w"], ["y"])], w=np.full((4, 5), 2.0, np.float32))
    for other in (infinite, wider):
        monkeypatch.setattr(module, "shorten", lambda _, other=other: other)
        assert "differs by inf" in simplify(scaled(2.0), model).warnings[0]


def test_attention_stays_in_standard_operators_and_native_remarks_are_held_back(capfd):
    """onnxsim would make com.microsoft::Attention of softmax attention."""
    assert "fuse_attention" in module.SKIPPED
    module.shorten(scaled(2.0))
    said = capfd.readouterr()
    assert said.out + said.err == ""
