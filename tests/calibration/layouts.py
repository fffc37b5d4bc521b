"""Graphs that keep their images elsewhere than along a first axis of their own.

All take ``image``, N x 3 x 4 x 4, and hold 16 tokens of three channels for each image. Weights are small multiples of
1/64, so that sums of small integers come out exactly, whatever the order of the additions. Every layer reads its first
channel through small weights, so that channels fall into groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.artifacts import OnnxArtifact, open_onnx
from linglos_deploy.images.dataset import ImageDataset, open_dataset
from linglos_deploy.images.preprocessing import PreprocessSpec

SIDE, CHANNELS, HIDDEN = 4, 3, 8
TOKENS = SIDE * SIDE
SPEC = PreprocessSpec(input_size=(SIDE, SIDE), crop_pct=1.0)

Node = onnx.NodeProto
_node = helper.make_node

TOKEN_FIRST = [
    _node("Reshape", ["image", "to_tokens"], ["flat"]),
    _node("Transpose", ["flat"], ["tokens"], perm=[0, 2, 1]),
]
TIME_FIRST = [
    _node("Reshape", ["image", "to_tokens"], ["flat"]),
    _node("Transpose", ["flat"], ["steps"], perm=[2, 0, 1]),
]


def _linear(operator: str, x: str, hidden: str, y: str) -> list[Node]:
    first, second = f"{hidden}_sum", f"{y}"
    return [
        _node(operator, [x, "w1"], [first]),
        _node("Relu", [first], [hidden]),
        _node(operator, [hidden, "w2"], [second]),
    ]


def _recurrent(kind: str, gates: int) -> list[Node]:
    return [
        *TIME_FIRST,
        _node(kind, ["steps", f"{kind}_w", f"{kind}_r"], ["states", ""], hidden_size=HIDDEN, name=f"recur{gates}"),
        _node("Squeeze", ["states", "one"], ["hidden"]),
        _node("MatMul", ["hidden", "w2"], ["y"]),
    ]


NODES: dict[str, list[Node]] = {
    "pictures": [
        _node("Conv", ["image", "w0"], ["maps"], pads=[1, 1, 1, 1]),
        _node("Relu", ["maps"], ["pixels"]),
        _node("Conv", ["pixels", "w3"], ["more"], pads=[1, 1, 1, 1]),
        _node("ReduceMean", ["more", "sides"], ["pooled"], keepdims=0),
        *_linear("Gemm", "pooled", "hidden", "y"),
    ],
    "token first": [*TOKEN_FIRST, *_linear("MatMul", "tokens", "hidden", "y")],
    "time first": [*TIME_FIRST, *_linear("MatMul", "steps", "hidden", "y")],
    "flattened tokens": [
        *TOKEN_FIRST,
        _node("Reshape", ["tokens", "to_rows"], ["rows"]),
        *_linear("Gemm", "rows", "hidden", "y"),
    ],
    "flattened steps": [
        *TIME_FIRST,
        _node("Reshape", ["steps", "to_rows"], ["rows"]),
        *_linear("Gemm", "rows", "hidden", "y"),
    ],
    "a constant beside it": [
        *TOKEN_FIRST,
        _node("Relu", ["positions"], ["position_rows"]),
        _node("MatMul", ["position_rows", "w1"], ["where"]),
        _node("MatMul", ["tokens", "w1"], ["what"]),
        _node("Add", ["what", "where"], ["hidden"]),
        _node("MatMul", ["hidden", "w2"], ["y"]),
    ],
    "attention": [
        *TOKEN_FIRST,
        *(_node("MatMul", ["tokens", weight], [name]) for weight, name in (("w1", "q"), ("w4", "k"), ("w5", "v"))),
        _node("Transpose", ["k"], ["k_t"], perm=[0, 2, 1]),
        _node("MatMul", ["q", "k_t"], ["scores"]),
        _node("Softmax", ["scores"], ["weights"], axis=-1),
        _node("MatMul", ["weights", "v"], ["hidden"]),
        _node("MatMul", ["hidden", "w2"], ["y"]),
    ],
    "LSTM": _recurrent("LSTM", 4),
    "GRU": _recurrent("GRU", 3),
    "mean of the batch": [
        *TOKEN_FIRST,
        _node("ReduceMean", ["tokens", "zero"], ["mean"]),
        _node("Sub", ["tokens", "mean"], ["centred"]),
        *_linear("MatMul", "centred", "hidden", "y"),
    ],
    "chosen by value": [
        *TOKEN_FIRST,
        _node("Reshape", ["tokens", "to_rows"], ["rows"]),
        _node("ReduceSum", ["rows", "one"], ["sums"], keepdims=0),
        _node("Relu", ["sums"], ["positive"]),
        _node("NonZero", ["positive"], ["found"]),
        _node("Squeeze", ["found", "zero"], ["places"]),
        _node("Gather", ["rows", "places"], ["chosen"]),
        *_linear("Gemm", "chosen", "hidden", "y"),
    ],
}
ROWS = ("pictures", "flattened tokens", "flattened steps", "chosen by value")
EXACT = ("pictures", "token first", "time first", "flattened tokens", "flattened steps", "a constant beside it")
"""Those whose values no order of additions can change."""


def layout_graph(path: Path, layout: str, *, batch: int | str = "batch") -> OnnxArtifact:
    """Save one of :data:`NODES`."""
    rank = 2 if layout in ROWS else 3
    return _save(
        path,
        NODES[layout],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, CHANNELS, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)],
    )


def recurrent_graph(path: Path) -> OnnxArtifact:
    """Save a GRU over ``steps``, T x N x C, from ``state``, 1 x N x H; ``rate`` scales what it gives."""
    nodes = [
        _node("GRU", ["steps", "GRU_w", "GRU_r", "", "", "state"], ["states", "last"], hidden_size=HIDDEN),
        _node("Squeeze", ["states", "one"], ["squeezed"]),
        _node("Mul", ["squeezed", "rate"], ["hidden"]),
        _node("MatMul", ["hidden", "w2"], ["y"]),
    ]
    shapes = {"rate": [], "steps": [TOKENS, "batch", CHANNELS], "state": [1, "batch", HIDDEN]}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    return _save(path, nodes, inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [TOKENS, "batch", 5])])


def images_for(folder: Path, count: int, *, integers: bool, seed: int = 0) -> ImageDataset:
    """Return images that differ in brightness, of small integers or of any numbers."""
    rng = np.random.default_rng(seed)
    shape = (count, CHANNELS, SIDE, SIDE)
    images = rng.integers(-3, 4, shape) if integers else rng.standard_normal(shape)
    file = folder / f"{count}-{integers}-{seed}.npy"
    np.save(file, (images + np.arange(count)[:, None, None, None] % 5).astype(np.float32))
    return open_dataset(file, SPEC)


def _save(
    path: Path, nodes: list[Node], inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
) -> OnnxArtifact:
    weights = [numpy_helper.from_array(value, name) for name, value in _constants().items()]
    graph = helper.make_graph(nodes, "layout", inputs, outputs, initializer=weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return open_onnx(path)


def _constants() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)

    def weight(*shape: int) -> np.ndarray:
        return (rng.integers(-8, 9, shape) / 8).astype(np.float32)

    def quiet(values: np.ndarray, axis: int) -> np.ndarray:
        small = np.where(np.arange(values.shape[axis]) == 0, 1 / 8, 1.0).reshape(
            [-1 if place == axis else 1 for place in range(values.ndim)]
        )
        return (values * small).astype(np.float32)

    integers: dict[str, Sequence[int]] = {
        "to_tokens": (0, CHANNELS, TOKENS),
        "to_rows": (-1, CHANNELS),
        "zero": (0,),
        "one": (1,),
        "sides": (2, 3),
    }
    return {
        **{name: np.array(value, np.int64) for name, value in integers.items()},
        "w0": quiet(weight(HIDDEN, CHANNELS, 3, 3), 1),
        "w3": quiet(weight(CHANNELS, HIDDEN, 3, 3), 1),
        "w1": quiet(weight(CHANNELS, HIDDEN), 0),
        "w2": quiet(weight(HIDDEN, 5), 0),
        "w4": quiet(weight(CHANNELS, HIDDEN), 0),
        "w5": quiet(weight(CHANNELS, HIDDEN), 0),
        "positions": weight(1, TOKENS, CHANNELS),
        "LSTM_w": weight(1, 4 * HIDDEN, CHANNELS),
        "LSTM_r": weight(1, 4 * HIDDEN, HIDDEN),
        "GRU_w": weight(1, 3 * HIDDEN, CHANNELS),
        "GRU_r": weight(1, 3 * HIDDEN, HIDDEN),
    }
