from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from linglos_deploy.artifacts import OnnxArtifact, open_onnx
from linglos_deploy.backends.base import Runtime
from linglos_deploy.backends.batching import AnyBatch
from linglos_deploy.backends.onnxruntime import OnnxRuntime


def doubling(path: Path, batch: int | str) -> OnnxArtifact:
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, 2]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Add", ["x", "x"], ["y"])], "g", values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)
    return open_onnx(path)


@pytest.mark.parametrize("reuse_outputs", [False, True])
@pytest.mark.parametrize("images", [1, 3, 4, 7])
@pytest.mark.parametrize("batch", ["batch", 1, 3])
def test_any_number_of_images_runs_through_any_batch_size(
    tmp_path: Path, batch: int | str, images: int, reuse_outputs: bool
) -> None:
    runtime = AnyBatch(OnnxRuntime(threads=1, reuse_outputs=reuse_outputs))
    assert isinstance(runtime, Runtime)
    values = np.arange(images * 2, dtype=np.float32).reshape(images, 2)
    with runtime.open(doubling(tmp_path / "m.onnx", batch)) as runner:
        assert runner.signature.output_names == ("y",)
        np.testing.assert_array_equal(runner.run({"x": values})["y"], 2 * values)
