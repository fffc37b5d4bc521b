"""How much each channel of a tensor counts at the layers that read it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.calibration.gains import Weighing, weighings
from linglos_deploy.graph.gains import channel_gains
from linglos_deploy.graph.layers import find_layers
from linglos_deploy.graph.passes.running import read_ir

RNG = np.random.default_rng(0)


def graph(nodes: list[onnx.NodeProto], weights: Mapping[str, np.ndarray], shape: list[int]) -> onnx.ModelProto:
    made = helper.make_graph(
        nodes,
        "readers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None) for node in nodes],
        initializer=[numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def weight(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


READERS = {
    "Conv": (helper.make_node("Conv", ["x", "w"], ["y"]), weight(5, 4, 3, 3), [1, 4, 3, 3]),
    "grouped Conv": (helper.make_node("Conv", ["x", "w"], ["y"], group=2), weight(6, 2, 3, 3), [1, 4, 3, 3]),
    "depthwise Conv": (helper.make_node("Conv", ["x", "w"], ["y"], group=4), weight(8, 1, 3, 3), [1, 4, 3, 3]),
    "Conv on lines": (helper.make_node("Conv", ["x", "w"], ["y"]), weight(5, 4, 3), [1, 4, 3]),
    "ConvTranspose": (helper.make_node("ConvTranspose", ["x", "w"], ["y"], group=2), weight(4, 3, 2, 2), [1, 4, 1, 1]),
    "MatMul": (helper.make_node("MatMul", ["x", "w"], ["y"]), weight(4, 6), [1, 1, 4]),
    "Gemm": (helper.make_node("Gemm", ["x", "w"], ["y"]), weight(4, 6), [1, 4]),
    "Gemm, transposed": (helper.make_node("Gemm", ["x", "w"], ["y"], transB=1), weight(6, 4), [1, 4]),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_gain_is_what_one_channel_alone_makes_of_noise(reader: str) -> None:
    """Every value of the channel is sent through the layer alone; the squares of all that comes out add up."""
    node, values, shape = READERS[reader]
    model = graph([node], {"w": values}, shape)
    (layer,) = find_layers(read_ir(model).graph)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    axis = 1 if "Conv" in reader else len(shape) - 1
    expected = np.zeros(4)
    for place in np.ndindex(*shape):
        one = np.zeros(shape, np.float32)
        one[place] = 1
        expected[place[axis]] += float(np.square(session.run(None, {"x": one})[0], dtype=np.float64).sum())
    found = channel_gains(layer)
    assert found is not None
    assert found == pytest.approx(expected, rel=1e-5)


def loud(*shape: int, axis: int) -> np.ndarray:
    """Return a weight that reads channel 2 fifty times as loud."""
    values = np.moveaxis(np.ones(shape, np.float32), axis, 0).copy()
    values[2] *= 50
    return np.ascontiguousarray(np.moveaxis(values, 0, axis))


def test_several_readers_add_up() -> None:
    nodes = [helper.make_node("Conv", ["x", "a"], ["p"]), helper.make_node("Conv", ["x", "b"], ["q"])]
    model = graph(nodes, {"a": np.ones((5, 4, 1, 1), np.float32), "b": loud(1, 4, 1, 1, axis=1)}, [1, 4, 2, 2])
    found = weighings(model, ["x"])["x"]
    assert isinstance(found, Weighing)
    assert found.axis == 1
    assert found.groups.members == (0, 0, 1, 0)


def test_readers_along_different_axes_are_said() -> None:
    nodes = [helper.make_node("Conv", ["x", "a"], ["p"]), helper.make_node("MatMul", ["x", "b"], ["q"])]
    model = graph(nodes, {"a": weight(5, 4, 1, 1), "b": weight(4, 3)}, [1, 4, 4, 4])
    assert weighings(model, ["x"])["x"] == "its readers count channels along different axes"


def test_what_no_layer_reads_directly_is_said() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "x"], ["squares"]),
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("MatMul", ["a", "x"], ["left"]),
    ]
    model = graph(nodes, {"a": weight(4, 4)}, [1, 4, 4])
    assert weighings(model, ["x"]) == {"x": "no layer reads it directly"}


def test_weights_that_are_not_finite_weigh_nothing() -> None:
    values = weight(4, 3)
    values[0, 0] = np.inf
    model = graph([helper.make_node("MatMul", ["x", "a"], ["p"])], {"a": values}, [1, 4])
    assert weighings(model, ["x"])["x"] == "the weights of its readers have no norm per channel"
