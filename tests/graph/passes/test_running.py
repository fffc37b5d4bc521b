from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_ir.passes import InPlacePass, PassResult
from onnx_ir.passes.common import RemoveUnusedNodesPass

from linglos_deploy.errors import ArtifactError, ExportError
from linglos_deploy.graph.passes.running import run_passes
from tests.quantization.graphs import attention_model


class Rename(InPlacePass):
    """Gives the graph another name."""

    def call(self, model: ir.Model) -> PassResult:
        model.graph.name = "renamed"
        return PassResult(model, modified=True)


class Refuse(Rename):
    def requires(self, model: ir.Model) -> None:
        raise ExportError("It has no convolution.")


def test_a_graph_that_no_pass_touches_comes_out_as_it_went_in() -> None:
    model = onnx.shape_inference.infer_shapes(attention_model())
    result = run_passes(model)
    assert result.graph.node == model.graph.node
    assert result.graph.initializer == model.graph.initializer
    assert result.graph.input == model.graph.input
    assert result.graph.output == model.graph.output
    assert list(result.graph.value_info) == list(model.graph.value_info)


def test_the_graph_that_was_given_stays_and_the_bytes_are_the_same_every_time() -> None:
    model = attention_model()
    before = model.SerializeToString(deterministic=True)
    results = [run_passes(model, Rename()).SerializeToString(deterministic=True) for _ in range(2)]
    assert results[0] == results[1]
    assert model.SerializeToString(deterministic=True) == before
    assert onnx.load_from_string(results[0]).graph.name == "renamed"


def test_what_a_condition_says_reaches_the_user_unwrapped() -> None:
    with pytest.raises(ExportError, match="It has no convolution"):
        run_passes(attention_model(), Refuse())


def test_a_graph_that_onnx_ir_cannot_read_is_refused() -> None:
    values = numpy_helper.from_array(np.float32([1]), "v")
    sparse = onnx.SparseTensorProto(values=values, indices=numpy_helper.from_array(np.array([0]), "i"), dims=[3])
    node = helper.make_node("Constant", [], ["c"], sparse_value=sparse)
    graph = helper.make_graph([node], "net", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, [3])])
    with pytest.raises(ArtifactError, match="'net' has a part that cannot be edited"):
        run_passes(helper.make_model(graph))


def test_what_the_inside_of_an_if_reads_is_not_dead() -> None:
    value = helper.make_tensor_value_info
    branch = helper.make_graph(
        [helper.make_node("Relu", ["inner"], ["c"], name="relu")], "b", [], [value("c", TensorProto.FLOAT, None)]
    )
    copy = helper.make_node("Identity", ["other"], ["d"])
    outer = helper.make_graph([copy], "o", [], [value("d", TensorProto.FLOAT, None)])
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
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    result = run_passes(model, RemoveUnusedNodesPass())
    assert [node.name for node in result.graph.node] == ["abs", "neg", "if"]
