"""What a derived graph may differ in from its parent, rule by rule, on graphs of a few nodes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.choices import Precision
from linglos_deploy.parity.structure import prove


def small(path: Path | None = None, *, epsilon: float = 1e-12, element: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """``(x + tiny) / max(x, floor)``: constants that 16 bits cannot hold as they are."""
    dtype = helper.tensor_dtype_to_np_dtype(element)
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "tiny"], ["sum"], "sum"),
            helper.make_node("Add", ["sum", "mask"], ["y"], "mask"),
        ],
        "small",
        [helper.make_tensor_value_info("x", element, ["batch", 2])],
        [helper.make_tensor_value_info("y", element, ["batch", 2])],
        [
            numpy_helper.from_array(np.array(epsilon, dtype), "tiny"),
            numpy_helper.from_array(np.array([-np.inf, 0], dtype), "mask"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


@pytest.mark.parametrize(("narrow", "passed"), [(0.0, True), (6e-8, True), (6e-5, True), (-6e-8, False), (1e-3, False)])
def test_a_constant_that_vanishes_in_16_bits_may_be_kept_at_the_smallest_number(narrow: float, passed: bool) -> None:
    candidate = small(epsilon=narrow, element=TensorProto.FLOAT16)
    assert prove(small(), candidate, Precision.FP16).passed is passed


def test_a_tiny_constant_that_16_bits_hold_is_kept_as_it_is() -> None:
    narrow = TensorProto.FLOAT16
    assert prove(small(epsilon=1e-5), small(epsilon=1e-5, element=narrow), Precision.FP16).passed
    assert not prove(small(epsilon=1e-5), small(epsilon=6e-5, element=narrow), Precision.FP16).passed


def test_a_16_bit_infinity_is_the_parents_and_no_other() -> None:
    candidate = small(element=TensorProto.FLOAT16)
    assert prove(small(), candidate, Precision.FP16).passed
    candidate.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array([-np.inf, -np.inf], np.float16), "mask"))
    found = prove(small(), candidate, Precision.FP16)
    assert [difference.layer for difference in found.differences] == ["mask"]


def test_an_int8_graph_may_not_hide_a_cast_to_16_bits() -> None:
    candidate = small()
    candidate.graph.node[1].input[0] = "back"
    made = [
        helper.make_node("Cast", ["sum"], ["half"], "half", to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], ["back"], "back", to=TensorProto.FLOAT),
    ]
    nodes = [candidate.graph.node[0], *made, candidate.graph.node[1]]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del candidate.graph.node[:]
    candidate.graph.node.extend(copies)
    assert not prove(small(), candidate, Precision.INT8).passed
    assert prove(small(), candidate, Precision.FP16).passed


def test_other_inputs_and_outputs_are_differences() -> None:
    candidate = small()
    candidate.graph.output[0].name = "z"
    candidate.graph.node[1].output[0] = "z"
    assert [found.what for found in prove(small(), candidate, Precision.INT8).differences] == ["output of the graph"]
    wider = small()
    wider.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3
    assert prove(small(), wider, Precision.INT8).differences[0].what == "input of the graph"


def test_an_older_opset_is_a_difference_and_a_later_one_is_read_as_the_parents() -> None:
    older, later = small(), small()
    older.opset_import[0].version = 18
    later.opset_import[0].version = 22
    assert [found.what for found in prove(small(), older, Precision.INT8).differences] == ["opset"]
    assert prove(small(), later, Precision.INT8).passed


def test_the_opset_of_other_operators_must_be_the_parents() -> None:
    parent, candidate = small(), small()
    parent.opset_import.append(helper.make_opsetid("com.example", 1))
    candidate.opset_import.append(helper.make_opsetid("com.example", 2))
    assert [found.what for found in prove(parent, candidate, Precision.INT8).differences] == ["opset of 'com.example'"]


def test_a_function_in_the_file_may_not_take_an_operators_place() -> None:
    candidate = small()
    body = [helper.make_node("Sub", ["a", "b"], ["c"])]
    candidate.functions.append(helper.make_function("", "Add", ["a", "b"], ["c"], body, [helper.make_opsetid("", 20)]))
    assert [found.what for found in prove(small(), candidate, Precision.INT8).differences] == [
        "function 'Add' of the file"
    ]


def test_only_the_type_that_a_node_makes_may_become_16_bits() -> None:
    parent, candidate = small(), small(element=TensorProto.FLOAT16)
    for model, stash in ((parent, 1), (candidate, 10)):
        model.graph.node[0].op_type = "LayerNormalization"
        model.graph.node[0].attribute.append(helper.make_attribute("stash_type", stash))
    differences = prove(parent, candidate, Precision.FP16).differences
    assert [found.what for found in differences] == ["attribute 'stash_type' of LayerNormalization"]


def branching(*, added: float = 1.0, element: int = TensorProto.FLOAT, swapped: bool = False) -> onnx.ModelProto:
    """``x + 1 if flag else x * 3``, whose branches read the tensor outside."""
    dtype = helper.tensor_dtype_to_np_dtype(element)
    branches = {
        branch: helper.make_graph(
            [helper.make_node(kind, ["x", f"{branch}/by"], [f"{branch}/out"], f"{branch}/{kind}")],
            branch,
            [],
            [helper.make_tensor_value_info(f"{branch}/out", element, ["batch", 2])],
            [numpy_helper.from_array(np.array(by, dtype), f"{branch}/by")],
        )
        for branch, kind, by in (("yes", "Add", added), ("no", "Mul", 3.0))
    }
    names = ("no", "yes") if swapped else ("yes", "no")
    graph = helper.make_graph(
        [helper.make_node("If", ["flag"], ["y"], "if", then_branch=branches[names[0]], else_branch=branches[names[1]])],
        "branching",
        [
            helper.make_tensor_value_info("x", element, ["batch", 2]),
            helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("y", element, ["batch", 2])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.INT8])
def test_branches_are_proven_too(precision: Precision) -> None:
    element = TensorProto.FLOAT16 if precision is Precision.FP16 else TensorProto.FLOAT
    assert prove(branching(), branching(element=element), precision).passed
    assert not prove(branching(), branching(element=element, added=2.0), precision).passed
    assert not prove(branching(), branching(element=element, swapped=True), precision).passed


def outside(*, maker: str = "Relu", constant: float = 3.0, element: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """The same, whose branches read a tensor that is made outside and a constant that lies there."""
    model = branching(element=element)
    (choice,) = model.graph.node
    made = helper.make_node(maker, ["x"], ["made"], "made")
    for attribute in choice.attribute:
        attribute.g.node[0].input[:] = ["made", "factor"]
    copy = onnx.NodeProto.FromString(choice.SerializeToString())
    del model.graph.node[:]
    model.graph.node.extend([made, copy])
    dtype = helper.tensor_dtype_to_np_dtype(element)
    model.graph.initializer.append(numpy_helper.from_array(np.array(constant, dtype), "factor"))
    return model


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.INT8])
def test_what_branches_read_from_outside_is_proven_too(precision: Precision) -> None:
    element = TensorProto.FLOAT16 if precision is Precision.FP16 else TensorProto.FLOAT
    assert prove(outside(), outside(element=element), precision).passed
    other = prove(outside(), outside(element=element, maker="Tanh"), precision)
    assert [difference.node for difference in other.differences] == ["made"]
    assert not prove(outside(), outside(element=element, constant=3.5), precision).passed


def looping(*, element: int = TensorProto.FLOAT, crossed: bool = False, name: str = "") -> onnx.ModelProto:
    """Three rounds of ``a, b = b, a + b``; the names inside the body are ``name``'s own."""
    a, b = f"{name}a", f"{name}b"
    body = helper.make_graph(
        [
            helper.make_node("Identity", [f"{name}going"], [f"{name}on"], f"{name}on"),
            helper.make_node("Identity", [a if crossed else b], [f"{name}next"], f"{name}next"),
            helper.make_node("Add", [a, b], [f"{name}sum"], f"{name}sum"),
        ],
        "body",
        [
            helper.make_tensor_value_info(f"{name}round", TensorProto.INT64, []),
            helper.make_tensor_value_info(f"{name}going", TensorProto.BOOL, []),
            *(helper.make_tensor_value_info(value, element, ["batch", 2]) for value in (a, b)),
        ],
        [
            helper.make_tensor_value_info(f"{name}on", TensorProto.BOOL, []),
            *(helper.make_tensor_value_info(f"{name}{v}", element, ["batch", 2]) for v in ("next", "sum")),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["rounds", "", "x", "z"], ["p", "q"], "loop", body=body)],
        "looping",
        [helper.make_tensor_value_info(value, element, ["batch", 2]) for value in ("x", "z")],
        [helper.make_tensor_value_info(value, element, ["batch", 2]) for value in ("p", "q")],
        [numpy_helper.from_array(np.array(3, np.int64), "rounds")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def test_the_inputs_of_a_loops_body_are_told_apart_by_their_place() -> None:
    narrow = TensorProto.FLOAT16
    assert prove(looping(), looping(element=narrow, name="other_"), Precision.FP16).passed
    assert not prove(looping(), looping(element=narrow, crossed=True), Precision.FP16).passed
    assert not prove(looping(), looping(element=narrow, crossed=True, name="other_"), Precision.FP16).passed


def test_a_body_that_returns_less_is_a_difference() -> None:
    less = looping(element=TensorProto.FLOAT16)
    del less.graph.node[0].attribute[0].g.output[-1]
    found = prove(looping(), less, Precision.FP16).differences
    assert "inputs and outputs of 'body'" in [difference.what for difference in found]


def test_a_proof_with_a_difference_does_not_pass() -> None:
    proof = prove(small(), small(epsilon=1.0), Precision.INT8)
    assert not proof.passed
    assert replace(proof, differences=()).passed


def test_an_optional_input_that_is_left_out_in_the_middle_is_a_difference() -> None:
    def clipped(*ends: str) -> onnx.ModelProto:
        model = small()
        model.graph.node[1].op_type = "Clip"
        model.graph.node[1].input[:] = ["sum", *ends]
        return model

    assert prove(clipped("tiny", "tiny"), clipped("tiny", "tiny"), Precision.INT8).passed
    found = prove(clipped("tiny", "tiny"), clipped("", "tiny"), Precision.INT8)
    assert [difference.what for difference in found.differences] == ["optional input"]
