from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from linglos_deploy.artifacts import open_onnx
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.choices import Precision
from linglos_deploy.exporters.rounding import with_explicit_rounding
from linglos_deploy.graph.topology import value_types
from linglos_deploy.verbs.verdicts import Subject, open_subject
from tests.exporters.graphs import graph, run_rounded

HALF = TensorProto.FLOAT16


def _half(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16).astype(np.float32)


def test_every_output_of_a_node_is_rounded():
    nodes = [helper.make_node("TopK", ["s", "k"], ["top", "index"]), helper.make_node("Add", ["x", "third"], ["s"])]
    model = graph(
        nodes[::-1],
        {"third": np.float16(1 / 3), "k": np.int64([2])},
        element=HALF,
        outputs={"top": ["n", 2], "s": ["n", 4]},
    )
    x = np.float32([[1, 2, 3, 4]])
    top, s = run_rounded(model, {"x": x})
    np.testing.assert_array_equal(s, _half(x + np.float32(np.float16(1 / 3))))
    np.testing.assert_array_equal(top, s[:, [3, 2]])
    assert HALF not in {value.type.tensor_type.elem_type for value in with_explicit_rounding(model).graph.output}


def test_bodies_of_control_flow_are_rounded():
    def branch(name: str, operator: str) -> onnx.GraphProto:
        body = [helper.make_node(operator, ["x", "third"], [name])]
        return helper.make_graph(body, name, [], [helper.make_tensor_value_info(name, HALF, ["n", 4])])

    nodes = [
        helper.make_node("If", ["yes"], ["y"], then_branch=branch("a", "Add"), else_branch=branch("b", "Mul")),
    ]
    model = graph(nodes, {"yes": np.bool_(True), "third": np.float16(1 / 3)}, element=HALF)
    x = np.float32([[1, 2, 3, 400]])
    (y,) = run_rounded(model, {"x": x})
    np.testing.assert_array_equal(y, _half(x + np.float32(np.float16(1 / 3))))


def test_numbers_beyond_float16_become_infinite():
    model = graph([helper.make_node("Mul", ["x", "x"], ["y"])], element=HALF)
    (y,) = run_rounded(model, {"x": np.float32([[1, -300, 255, 0]])})
    np.testing.assert_array_equal(y, [[1, np.inf, 65024, 0]])


def test_a_graph_without_sixteen_bits_stays_as_it_is():
    model = graph([helper.make_node("Mul", ["x", "x"], ["y"])])
    assert [node.op_type for node in with_explicit_rounding(model).graph.node] == ["Mul"]


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.INT8_FP16])
def test_what_is_checked_of_an_int8_graph_is_rounded_as_a_float16_graph_is(precision, tmp_path):
    """A square that float16 cannot hold is seen beside a quantized layer, too."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "zero"], ["d"]),
        helper.make_node("Mul", ["d", "d"], ["square"]),
        helper.make_node("Sqrt", ["square"], ["y"]),
    ]
    path = tmp_path / "half.onnx"
    onnx.save(graph(nodes, {"s": np.float16(4), "zero": np.int8(0)}, element=HALF), path)
    with open_subject(Subject(open_onnx(path), precision), OnnxRuntime(threads=1)) as runner:
        (y,) = runner.run({"x": np.float32([[4, 8, 400, -400]])}).values()
    np.testing.assert_array_equal(y, [[4, 8, np.inf, np.inf]])


def test_the_types_of_quantized_tensors_are_kept():
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "zero"], ["y"]),
    ]
    model = graph(nodes, {"s": np.float16(0.25), "zero": np.int8(0)}, element=HALF)
    types = value_types(with_explicit_rounding(model))
    assert types["q"] == types["zero"] == TensorProto.INT8
    assert types["s"] == types["y"] == TensorProto.FLOAT
