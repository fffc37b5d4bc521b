"""Small graphs as other people make them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

node = helper.make_node
value = helper.make_tensor_value_info


def voice(path: Path) -> Path:
    """Several inputs: samples, a state whose images lie along axis 1, a rate without images; an If inside.

    before: input (batch, 6) -> MatMul -> + state of layer 0 -> If(rate == 16000) scale, else MatMul -> output
    """
    random = np.random.default_rng(0)
    weights = {
        "w": random.standard_normal((6, 4)).astype(np.float32),
        "inner_w": random.standard_normal((4, 4)).astype(np.float32),
        "rate_16k": np.array(16000),
        "layer": np.array(0),
        "half": np.array(0.5, np.float32),
    }
    then = helper.make_graph([node("Mul", ["sum", "half"], ["scaled"])], "then", [], [value("scaled", 1, None)])
    other = helper.make_graph(
        [node("MatMul", ["sum", "inner_w"], ["mixed"], name="inner")], "else", [], [value("mixed", 1, None)]
    )
    graph = helper.make_graph(
        [
            node("Gather", ["state", "layer"], ["first"], axis=0),
            node("MatMul", ["input", "w"], ["projected"]),
            node("Add", ["projected", "first"], ["sum"]),
            node("Equal", ["rate", "rate_16k"], ["is_16k"]),
            node("If", ["is_16k"], ["output"], then_branch=then, else_branch=other),
        ],
        "voice",
        [
            value("input", TensorProto.FLOAT, ["batch", 6]),
            value("state", TensorProto.FLOAT, [2, "batch", 4]),
            value("rate", TensorProto.INT64, []),
        ],
        [value("output", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    onnx.save(model, path)
    return path


def voice_data(path: Path, count: int = 40) -> Path:
    """Arrays by input name for :func:`voice`."""
    random = np.random.default_rng(1)
    np.savez(
        path,
        input=random.standard_normal((count, 6)).astype(np.float32),
        state=random.standard_normal((2, count, 4)).astype(np.float32),
        rate=np.array(16000),
    )
    return path


def grey_net(path: Path, *, opset: int = 9, batch: int = -1) -> Path:
    """One channel, sizes without names, an old opset with Upsample and attributes of its time, nodes without names."""
    random = np.random.default_rng(2)
    weights = {
        "w1": random.standard_normal((4, 1, 3, 3)).astype(np.float32) / 3,
        "w2": random.standard_normal((2, 4, 3, 3)).astype(np.float32) / 6,
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(
        [
            node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
            node("Clip", ["a"], ["b"], min=0.0, max=6.0),
            node("Upsample", ["b", "scales"], ["c"], mode="linear"),
            node("Conv", ["c", "w2"], ["y"], pads=[1, 1, 1, 1]),
        ],
        "grey",
        [value("x", TensorProto.FLOAT, [batch, 1, "?", "?"]), *(value(t.name, 1, list(t.dims)) for t in tensors)],
        [value("y", TensorProto.FLOAT, ["?", 2, "?", "?"])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3)
    onnx.save(model, path)
    return path
