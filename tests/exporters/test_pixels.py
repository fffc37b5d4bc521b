from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from linglos_deploy.artifacts import open_onnx
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.exporters.pixels import embed_preprocessing
from linglos_deploy.images.layout import Layout
from linglos_deploy.images.preprocessing import Color, PreprocessSpec, normalize


@pytest.mark.parametrize("color", Color)
@pytest.mark.parametrize("layout", Layout)
def test_a_graph_that_takes_pixels_normalizes_them_to_the_bit(color: Color, layout: Layout, tmp_path: Path) -> None:
    count = color.channels
    spec = PreprocessSpec(
        input_size=(5, 6),
        mean=tuple(0.123 * (index + 1) for index in range(count)),
        std=tuple(0.217 + 0.1 * index for index in range(count)),
        color=color,
        layout=layout,
        scale=127.5,
    )
    shape = ["n", *spec.input_shape()]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["image"], ["y"], name="same")],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    embed_preprocessing(model, spec)
    onnx.save(model, tmp_path / "model.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 6, count), dtype=np.uint8)
    with OnnxRuntime(threads=1).open(open_onnx(tmp_path / "model.onnx")) as runner:
        answer = runner.run({"image": pixels})["y"]
    np.testing.assert_array_equal(answer, normalize(pixels, spec))
