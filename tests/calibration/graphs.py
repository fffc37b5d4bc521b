"""A small convolutional graph, and images for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from linglos_deploy.artifacts import OnnxArtifact, open_onnx
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.images.preprocessing import PreprocessSpec

SIZE = 16
SPEC = PreprocessSpec(input_size=(SIZE, SIZE), crop_pct=1.0)
RUNTIME = OnnxRuntime(threads=1, reuse_outputs=True)


def small_graph(path: Path, *, batch: int | str = "batch", size: int | str = SIZE, seed: int = 0) -> OnnxArtifact:
    """image -> Conv -> Relu -> Conv -> Relu -> mean -> Gemm -> logits."""
    rng = np.random.default_rng(seed)
    shapes = {"w1": (8, 3, 3, 3), "w2": (12, 8, 3, 3), "w3": (5, 12)}
    weights = [
        numpy_helper.from_array((rng.standard_normal(shape) / 3).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], name="c1", strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="r1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="c2", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"], name="r2"),
        helper.make_node("ReduceMean", ["r2", "axes"], ["pooled"], name="mean", keepdims=0),
        helper.make_node("Gemm", ["pooled", "w3"], ["logits"], name="head", transB=1),
    ]
    weights.append(numpy_helper.from_array(np.array([2, 3], dtype=np.int64), "axes"))
    width = size if isinstance(size, int) else f"{size}_width"
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, size, width])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 5])],
        initializer=weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return open_onnx(path)


OBSERVED = ("image", "r1", "pooled")
"""What the plan of the small graph could need: ``r1`` for the second convolution, ``pooled`` for the linear layer."""


def write_images(folder: Path, count: int, *, classes: tuple[str, ...] = (), seed: int = 0) -> None:
    """Write PNG files of natural brightness, in a sub-folder per class if there are classes."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        place = folder / classes[index % len(classes)] if classes else folder
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.clip(rng.normal((124, 116, 104), 58, (20, 24, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{index:03}.png")
