"""The search for the first wrong tensor, on graphs of a few nodes."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.parity.locate import locate
from linglos_deploy.reports.parity import Location

X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def graph(nodes: list[onnx.NodeProto], outputs: dict[str, int], **constants: object) -> onnx.ModelProto:
    """Make a graph of ``x``, 3 x 4, whose outputs have so many axes."""
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}{axis}" for axis in range(axes)])
            for name, axes in outputs.items()
        ],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def node(op_type: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs.split(), [output], f"node {output}", **attributes)


def search(reference: onnx.ModelProto, candidate: onnx.ModelProto, **settings: float) -> Location:
    return locate(
        reference, candidate, {"x": X}, runtime=OnnxRuntime(threads=1, optimize=False), names=("a", "b"), **settings
    )


def chain(length: int, wrong: int | None = None) -> onnx.ModelProto:
    constants = {f"c{index}": 1.1 if index == wrong else 1.0 for index in range(length)}
    nodes = [node("Add", f"{f't{index - 1}' if index else 'x'} c{index}", f"t{index}") for index in range(length)]
    return graph(nodes, {f"t{length - 1}": 2}, **constants)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 33])
def test_every_place_in_a_chain_is_found_in_twice_its_logarithm(length: int) -> None:
    for wrong in range(length):
        found = search(chain(length), chain(length, wrong))
        assert found.tensor == f"t{wrong}"
        assert found.runs <= 2 * math.log2(length) + 5
        assert found.tensors == length
    assert search(chain(length), chain(length)).tensor is None


def test_what_goes_around_a_cut_is_in_it() -> None:
    def around(by: float) -> onnx.ModelProto:
        nodes = [
            node("Add", "x by", "a"),
            node("Mul", "x two", "b"),
            node("Mul", "b two", "c"),
            node("Add", "a c", "y"),
        ]
        return graph(nodes, {"y": 2}, by=by, two=2)

    assert search(around(1.0), around(1.5)).tensor == "a"


def test_what_the_graph_returns_and_nothing_reads_is_looked_at() -> None:
    def returning(by: float) -> onnx.ModelProto:
        nodes = [node("Add", "x by", "early"), node("Mul", "x two", "b"), node("Mul", "b two", "late")]
        return graph(nodes, {"early": 2, "late": 2}, by=by, two=2)

    assert search(returning(1.0), returning(1.5)).tensor == "early"


def test_another_shape_and_a_lost_number_are_never_close() -> None:
    def turned(order: list[int]) -> onnx.ModelProto:
        return graph([node("Transpose", "x", "t", perm=order), node("Mul", "t two", "y")], {"y": 2}, two=2)

    assert search(turned([0, 1]), turned([1, 0])).tensor == "t"
    clean, lost = chain(4), chain(4)
    lost.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.array([1, 1, 1, np.nan], np.float32), "c2"))
    assert search(clean, lost).tensor == "t2"


def test_a_node_that_is_missing_is_named() -> None:
    def clipped(clip: bool) -> onnx.ModelProto:
        between = [node("Clip", "a low high", "c")] if clip else []
        nodes = [node("Mul", "x two", "a"), *between, node("Add", f"{'c' if clip else 'a'} two", "y")]
        return graph(nodes, {"y": 2}, low=-0.1, high=0.1, two=2)

    found = search(clipped(True), clipped(False))
    assert (found.tensor, found.node, found.layer) == ("y", "node y", "node c")


@pytest.mark.parametrize(("limit", "expected"), [(110.0, "t1"), (10.0, None)])
def test_the_limit_is_obeyed(limit: float, expected: str | None) -> None:
    assert search(chain(3), chain(3, 1), limit_db=limit).tensor == expected


def test_the_default_limit_lets_rounding_through_and_nothing_more() -> None:
    clean, near, far = chain(3), chain(3), chain(3)
    for model, off in ((near, 3e-7), (far, 3e-5)):
        model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array(1 + off, np.float32), "c1"))
    assert search(clean, near).tensor is None
    assert search(clean, far).tensor == "t1"
