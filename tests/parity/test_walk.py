"""What the walk through both graphs looks through, and what it does not, on graphs of a few nodes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.choices import Precision
from linglos_deploy.parity.structure import prove

WEIGHT = np.array([[1.27, 0.0], [0.01, -1.27]], np.float32)
PAIR = (
    helper.make_node("QuantizeLinear", ["a", "s", "z"], ["a/q"], "q"),
    helper.make_node("DequantizeLinear", ["a/q", "s", "z"], ["a/d"], "dq"),
)
ROUNDED_WEIGHT = helper.make_node("DequantizeLinear", ["w/int8", "ws", "z"], ["w/d"], "w/dq")


def graph(*nodes: onnx.NodeProto, extra: tuple[str, ...] = (), **constants: object) -> onnx.ModelProto:
    """Make a graph of ``x`` and ``other``, 2 x 2, that returns ``y``."""
    kept = {
        "w": WEIGHT,
        "s": np.float32(0.1),
        "z": np.int8(0),
        "w/int8": np.rint(WEIGHT * 100).astype(np.int8),
        "ws": np.float32(0.01),
        **constants,
    }
    read = {name for node in nodes for name in node.input}
    made = helper.make_graph(
        [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes],
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in ("x", "other")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in ("y", *extra)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in kept.items() if name in read],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)])


def node(op_type: str, inputs: str, output: str, name: str = "", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs.split(), [output], name or op_type, **attributes)


PARENT = graph(node("Relu", "x", "a"), node("MatMul", "a w", "y"))


def told(candidate: onnx.ModelProto, parent: onnx.ModelProto = PARENT) -> list[str]:
    return [found.what for found in prove(parent, candidate, Precision.INT8).differences]


def test_a_pair_and_a_rounded_weight_are_looked_through() -> None:
    whole = graph(node("Relu", "x", "a"), *PAIR, ROUNDED_WEIGHT, node("MatMul", "a/d w/d", "y"))
    assert told(whole) == []
    proof = prove(PARENT, whole, Precision.INT8)
    assert (proof.nodes, proof.weights, proof.pairs) == (2, 1, 1)
    assert told(PARENT) == []


def test_a_pair_of_a_graph_that_is_not_int8_is_a_difference() -> None:
    whole = graph(node("Relu", "x", "a"), *PAIR, node("MatMul", "a/d w", "y"))
    assert not prove(PARENT, whole, Precision.FP16).passed


def test_casts_are_looked_through_in_16_bit_graphs_only_and_only_those_of_floating_point() -> None:
    def cast(*types: int) -> onnx.ModelProto:
        names = ["a", *(f"a{index}" for index in range(len(types)))]
        casts = [node("Cast", names[i], names[i + 1], names[i + 1], to=kind) for i, kind in enumerate(types)]
        return graph(node("Relu", "x", "a"), *casts, node("MatMul", f"{names[-1]} w", "y"))

    around = cast(TensorProto.FLOAT16, TensorProto.FLOAT)
    assert prove(PARENT, around, Precision.FP16).passed
    assert not prove(PARENT, around, Precision.BF16).passed
    assert not prove(PARENT, cast(TensorProto.INT32, TensorProto.FLOAT), Precision.FP16).passed
    assert told(cast(TensorProto.FLOAT)) == ["what 'MatMul' reads is made by another node"]


def test_a_quantizer_without_a_zero_point_makes_uint8() -> None:
    bare = (
        helper.make_node("QuantizeLinear", ["a", "s"], ["a/q"], "q"),
        helper.make_node("DequantizeLinear", ["a/q", "s"], ["a/d"], "dq"),
    )
    assert told(graph(node("Relu", "x", "a"), *bare, node("MatMul", "a/d w", "y"))) == ["zero point"]
    bare[0].attribute.append(helper.make_attribute("output_dtype", TensorProto.INT8))
    whole = graph(node("Relu", "x", "a"), *bare, node("MatMul", "a/d w", "y"))
    whole.opset_import[0].version = 21
    assert told(whole) == []


def test_what_is_rounded_twice_is_a_difference() -> None:
    again = (
        helper.make_node("QuantizeLinear", ["a/d", "s", "z"], ["a/q2"], "q2"),
        helper.make_node("DequantizeLinear", ["a/q2", "s", "z"], ["a/d2"], "dq2"),
    )
    twice = graph(node("Relu", "x", "a"), *PAIR, *again, node("MatMul", "a/d2 w", "y"))
    assert told(twice) == ["what 'MatMul' reads is rounded twice"]


def test_integers_that_no_quantizer_made_are_a_difference() -> None:
    made = (
        helper.make_node("Cast", ["a"], ["a/q"], "cast", to=TensorProto.INT8),
        PAIR[1],
    )
    other = graph(node("Relu", "x", "a"), *made, node("MatMul", "a/d w", "y"))
    assert told(other) == ["DequantizeLinear without a QuantizeLinear"]


def test_a_wrong_pair_and_a_wrong_weight_are_told_of() -> None:
    half = helper.make_node("DequantizeLinear", ["a/q", "s2", "z"], ["a/d"], "dq")
    wrong = graph(node("Relu", "x", "a"), PAIR[0], half, node("MatMul", "a/d w", "y"), s2=np.float32(0.2))
    assert told(wrong) == ["the two scales of a pair"]
    off = {"w/int8": np.rint(WEIGHT * 100).astype(np.int8) + np.int8(-3)}
    nodes = (node("Relu", "x", "a"), *PAIR, ROUNDED_WEIGHT, node("MatMul", "a/d w/d", "y"))
    assert told(graph(*nodes, **off)) == ["4 of 4 integers of a weight"]


def test_a_constant_is_no_tensor_and_a_tensor_no_constant() -> None:
    assert told(graph(node("Relu", "x", "a"), node("MatMul", "a other", "y"))) == ["reads a constant or not"]
    parent = graph(node("Relu", "x", "a"), node("MatMul", "a other", "y"))
    assert told(graph(node("Relu", "x", "a"), node("MatMul", "a w", "y")), parent) == ["reads a constant or not"]


def test_one_input_more_is_a_difference() -> None:
    parent = graph(node("Relu", "x", "a"), node("Clip", "a low", "y"), low=np.float32(0))
    more = graph(node("Relu", "x", "a"), node("Clip", "a low high", "y"), low=np.float32(0), high=np.float32(1))
    assert told(more, parent) == ["number of inputs"]


def test_one_output_more_is_a_difference() -> None:
    assert told(graph(node("Relu", "x", "a"), node("MatMul", "a w", "y"), extra=("a",))) == ["outputs of the graph"]


def test_another_input_is_another_tensor() -> None:
    assert told(graph(node("Relu", "other", "a"), node("MatMul", "a w", "y"))) == ["reads another tensor"]


def test_the_graphs_input_is_not_what_a_node_makes() -> None:
    assert told(graph(node("Relu", "x", "a"), node("MatMul", "x w", "y"))) == ["reads another tensor"]
    assert told(PARENT, graph(node("Relu", "x", "a"), node("MatMul", "x w", "y"))) == ["reads another tensor"]


@pytest.mark.parametrize("names", [("Relu", "again"), ("one", "two")])
def test_another_operator_in_a_nodes_place_is_a_difference(names: tuple[str, str]) -> None:
    parent = graph(node("Relu", "x", "a", names[0]), node("MatMul", "a w", "y"))
    other = graph(node("Sigmoid", "x", "a", names[1]), node("MatMul", "a w", "y"))
    assert told(other, parent) == ["what 'MatMul' reads is made by another node"]


def test_another_output_of_a_node_is_a_difference() -> None:
    def split(which: str) -> onnx.ModelProto:
        cut = helper.make_node("Split", ["x"], ["low", "high"], "cut", axis=0, num_outputs=2)
        return graph(cut, node("Concat", f"{which} {which}", "y", axis=0))

    assert told(split("high"), split("low")) == ["what 'Concat' reads is made by another node"]


def test_twins_that_were_exchanged_are_told_apart_by_name_and_without_names_by_their_place() -> None:
    def twins(first: str, second: str, names: tuple[str, str] = ("left", "right")) -> onnx.ModelProto:
        nodes = [node("Relu", "x", "l", names[0]), node("Relu", "other", "r", names[1])]
        return graph(*nodes, node("Sub", f"{first} {second}", "y"))

    assert told(twins("l", "r", ("p", "q")), twins("l", "r")) == []
    assert told(twins("r", "l"), twins("l", "r"))
    assert told(twins("r", "l", ("p", "q")), twins("l", "r"))


def test_twins_that_do_the_same_are_told_apart_by_name() -> None:
    """The plan speaks of layers by name, so each must be the one that its name says."""

    def twins(inputs: str) -> onnx.ModelProto:
        return graph(node("Relu", "x", "l", "left"), node("Relu", "x", "r", "right"), node("Sub", inputs, "y"))

    assert told(twins("l r"), twins("l r")) == []
    assert told(twins("r l"), twins("l r"))


def test_two_nodes_may_not_stand_for_one() -> None:
    parent = graph(node("Relu", "x", "l", "one"), node("Sub", "l l", "y"))
    other = graph(node("Relu", "x", "l", "first"), node("Relu", "x", "r", "second"), node("Sub", "l r", "y"))
    assert told(other, parent) == ["reads another tensor"]


def test_one_node_may_not_stand_for_two() -> None:
    parent = graph(node("Relu", "x", "l", "left"), node("Relu", "l", "r", "right"), node("Sub", "l r", "y"))
    other = graph(node("Relu", "x", "l", "one"), node("Sub", "l l", "y"))
    assert told(other, parent)


def test_each_attribute_must_be_the_parents() -> None:
    def turned(order: list[int]) -> onnx.ModelProto:
        return graph(node("Transpose", "x", "y", perm=order))

    def filled(value: float) -> onnx.ModelProto:
        shape = helper.make_node("Shape", ["x"], ["shape"], "shape")
        tensor = numpy_helper.from_array(np.array([value], np.float32), "v")
        return graph(shape, node("ConstantOfShape", "shape", "y", value=tensor))

    assert told(turned([1, 0]), turned([0, 1])) == ["attribute 'perm' of Transpose"]
    assert told(filled(1.0), filled(2.0)) == ["attribute 'value' of ConstantOfShape"]
    assert told(filled(1.0), filled(1.0)) == []


def test_a_graph_that_returns_a_16_bit_type_says_so_in_its_interface() -> None:
    half = graph(node("Relu", "x", "a"), node("MatMul", "a w", "y"))
    half.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    assert "output of the graph" in told(half)
