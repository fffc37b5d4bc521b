"""Tiny ONNX graphs whose right answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.artifacts import OnnxArtifact, open_onnx


def affine_graph(path: Path) -> OnnxArtifact:
    """``y = 2 x + 1`` and ``total = sum over axis 1 of x``, for ``x`` of N x M."""
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "two"], ["doubled"]),
            helper.make_node("Add", ["doubled", "one"], ["y"]),
            helper.make_node("ReduceSum", ["x", "axes"], ["total"], keepdims=0),
        ],
        "affine",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "width"])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "width"]),
            helper.make_tensor_value_info("total", TensorProto.FLOAT, ["batch"]),
        ],
        [
            numpy_helper.from_array(np.float32(2), "two"),
            numpy_helper.from_array(np.float32(1), "one"),
            numpy_helper.from_array(np.array([1], np.int64), "axes"),
        ],
    )
    return save(graph, path)


def saturating_graph(path: Path, *, channels: int = 64) -> OnnxArtifact:
    """An INT8 1x1 convolution whose products saturate 16-bit sums: each row of weights is all 127 or all -127."""
    signs = np.where(np.arange(8) % 2 == 0, 127, -127).astype(np.int8)
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "x_scale", "zero"], ["x_int8"]),
            helper.make_node("DequantizeLinear", ["x_int8", "x_scale", "zero"], ["x_float"]),
            helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_float"], axis=0),
            helper.make_node("Conv", ["x_float", "w_float"], ["sum"]),
            helper.make_node("QuantizeLinear", ["sum", "y_scale", "zero"], ["y_int8"]),
            helper.make_node("DequantizeLinear", ["y_int8", "y_scale", "zero"], ["y"]),
        ],
        "saturating",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", channels, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8, 4, 4])],
        [
            numpy_helper.from_array(np.float32(1 / 127), "x_scale"),
            numpy_helper.from_array(np.int8(0), "zero"),
            numpy_helper.from_array(np.tile(signs[:, None, None, None], (1, channels, 1, 1)), "w"),
            numpy_helper.from_array(np.full(8, 1 / 127, np.float32), "w_scale"),
            numpy_helper.from_array(np.zeros(8, np.int8), "w_zero"),
            numpy_helper.from_array(np.float32(channels / 127), "y_scale"),
        ],
    )
    return save(graph, path)


def save(graph: onnx.GraphProto, path: Path) -> OnnxArtifact:
    """Write a graph as a model of opset 20."""
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return open_onnx(path)
