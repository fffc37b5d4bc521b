"""A residual network that is no LinGlo: convolutions with ReLUs, a sum, a depthwise layer, pools and a linear head."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS, CLASSES, SIDE = 8, 5, 8


def residual_model(*, seed: int = 0) -> onnx.ModelProto:
    """``image`` is N x 3 x 8 x 8, ``logits`` N x 5; one output channel of ``w2`` is zero and has a bias."""
    random = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        values = random.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        if name == "w2":
            values[3] = 0.0
        return numpy_helper.from_array(values.astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["image", "w0", "b0"], ["c0"], "stem", pads=[1] * 4),
        helper.make_node("Relu", ["c0"], ["r0"], "stem.relu"),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], "depthwise", pads=[1] * 4, group=CHANNELS),
        helper.make_node("Clip", ["c1", "zero", "six"], ["r1"], "depthwise.relu6"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "project"),
        helper.make_node("Add", ["r0", "c2"], ["sum"], "sum"),
        helper.make_node("Relu", ["sum"], ["r2"], "sum.relu"),
        helper.make_node("Conv", ["r2", "w3"], ["c3"], "wide", pads=[1] * 4),
        helper.make_node("Relu", ["c3"], ["r3"], "wide.relu"),
        helper.make_node("MaxPool", ["r3"], ["m3"], "max", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["m3", "w4", "b4"], ["c4"], "last"),
        helper.make_node("Relu", ["c4"], ["r4"], "last.relu"),
        helper.make_node("GlobalAveragePool", ["r4"], ["p4"], "mean"),
        helper.make_node("Flatten", ["p4"], ["f4"], "flat"),
        helper.make_node("Gemm", ["f4", "w5", "b5"], ["logits"], "head", transB=1),
    ]
    weights = [
        weight("w0", CHANNELS, 3, 3, 3),
        weight("b0", CHANNELS),
        weight("w1", CHANNELS, 1, 3, 3),
        weight("b1", CHANNELS),
        weight("w2", CHANNELS, CHANNELS, 1, 1),
        weight("b2", CHANNELS),
        weight("w3", 2 * CHANNELS, CHANNELS, 3, 3),
        weight("w4", CHANNELS, 2 * CHANNELS, 1, 1),
        weight("b4", CHANNELS),
        weight("w5", CLASSES, CHANNELS),
        weight("b5", CLASSES),
        numpy_helper.from_array(np.array(0, np.float32), "zero"),
        numpy_helper.from_array(np.array(6, np.float32), "six"),
    ]
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def residual_images(count: int = 16, *, seed: int = 0) -> np.ndarray:
    """Return float32 images of shape (count, 3, 8, 8)."""
    return np.random.default_rng(seed).normal(size=(count, 3, SIDE, SIDE)).astype(np.float32)
