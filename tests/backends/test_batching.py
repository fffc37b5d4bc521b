from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from linglos_deploy.artifacts import OnnxArtifact, open_onnx
from linglos_deploy.backends.base import Runtime
from linglos_deploy.backends.batching import AnyBatch
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.errors import DataError
from linglos_deploy.graph.axes import input_axes
from linglos_deploy.signature import ModelSignature, TensorSpec


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


def graph(
    path: Path, nodes: list[onnx.NodeProto], x: list[int | str], y: list[int | str | None] | None
) -> OnnxArtifact:
    """Save ``nodes`` from ``x`` to ``y``, with the constants they may read."""
    constants = [onnx.numpy_helper.from_array(np.array(value, np.int64), name) for name, value in CONSTANTS.items()]
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in (("x", x), ("y", y))
    ]
    made = onnx.helper.make_graph(nodes, "g", values[:1], values[1:], initializer=constants)
    onnx.save(onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), path)
    return open_onnx(path)


CONSTANTS = {"rows": [-1, 2], "zero": [0], "one": [1], "all": [-1]}
NODE = onnx.helper.make_node
LAYOUTS = {
    "time first": ([NODE("Transpose", ["x"], ["y"], perm=[1, 0, 2])], 3),
    "tokens, image by image": ([NODE("Reshape", ["x", "rows"], ["y"])], 2),
    "tokens, position by position": (
        [NODE("Transpose", ["x"], ["t"], perm=[1, 0, 2]), NODE("Reshape", ["t", "rows"], ["y"])],
        2,
    ),
    "a constant": ([NODE("Shape", ["x"], ["s"]), NODE("Cast", ["s"], ["y"], to=onnx.TensorProto.FLOAT)], 1),
}


@pytest.mark.parametrize("images", [1, 2, 3, 7])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_outputs_come_out_as_a_graph_of_any_batch_size_lays_them_out(tmp_path: Path, layout: str, images: int) -> None:
    nodes, rank = LAYOUTS[layout]
    runtime = AnyBatch(OnnxRuntime(threads=1, reuse_outputs=True))
    values = np.random.default_rng(0).standard_normal((images, 5, 2)).astype(np.float32)
    fixed = graph(tmp_path / "fixed.onnx", nodes, [3, 5, 2], [None] * rank)
    free = graph(tmp_path / "free.onnx", nodes, ["n", 5, 2], [None] * rank)
    with runtime.open(fixed) as pieces, runtime.open(free) as whole:
        expected = whole.run({"x": values})["y"] if layout != "a constant" else np.array([3, 5, 2])
        np.testing.assert_array_equal(pieces.run({"x": values})["y"], expected)


def test_graphs_of_one_image_lay_their_outputs_out_like_their_inputs(tmp_path: Path) -> None:
    runtime = AnyBatch(OnnxRuntime(threads=1))
    values = np.random.default_rng(0).standard_normal((5, 4, 2)).astype(np.float32)
    recurrent = graph(tmp_path / "r.onnx", [NODE("Relu", ["x"], ["y"])], [5, 1, 2], [5, 1, 2])
    with runtime.open(recurrent) as runner:
        assert runner.run({"x": values[:, :1]})["y"].shape == (5, 1, 2)
    named = ModelSignature((TensorSpec("x", "float32", (5, 1, 2)),), ())
    assert input_axes(named).axes == {"x": 0}  # nothing says that 1 is the batch and 5 is not
    tokens = graph(tmp_path / "t.onnx", [NODE("Reshape", ["x", "rows"], ["y"])], [1, 5, 2], [5, 2])
    with runtime.open(tokens) as runner:
        images = np.swapaxes(values, 0, 1)
        np.testing.assert_array_equal(runner.run({"x": images})["y"], images.reshape(20, 2))


def test_a_state_of_one_image_gets_the_others_behind_its_layers(tmp_path: Path) -> None:
    nodes, rank = LAYOUTS["time first"]
    values = np.random.default_rng(0).standard_normal((3, 5, 2)).astype(np.float32)
    state = graph(tmp_path / "s.onnx", nodes, [1, 5, 2], [None] * rank)
    with AnyBatch(OnnxRuntime(threads=1)).open(state) as runner:
        np.testing.assert_array_equal(runner.run({"x": values})["y"], np.swapaxes(values, 0, 1))


@pytest.mark.parametrize(("batch", "images"), [(1, 2), (3, 2), (3, 4)])
def test_outputs_whose_size_depends_on_the_values_are_refused_by_name(tmp_path: Path, batch: int, images: int) -> None:
    found = [NODE("NonZero", ["x"], ["i"]), NODE("Cast", ["i"], ["y"], to=onnx.TensorProto.FLOAT)]
    values = np.tril(np.ones((4, 4), np.float32))[:images]
    with AnyBatch(OnnxRuntime(threads=1)).open(graph(tmp_path / "m.onnx", found, [batch, 4], [2, None])) as runner:
        with pytest.raises(DataError, match="'y' does not say which part belongs to which image"):
            runner.run({"x": values})
        fitting = np.tril(np.ones((4, 4), np.float32))[:batch]
        assert runner.run({"x": fitting})["y"].shape == (2, int(fitting.sum()))


def test_outputs_that_mix_the_images_are_refused_by_name(tmp_path: Path) -> None:
    mean = [NODE("ReduceMean", ["x", "zero"], ["m"]), NODE("Sub", ["x", "m"], ["y"])]
    values = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    fixed = graph(tmp_path / "m.onnx", mean, [3, 4], [3, 4])
    with (
        AnyBatch(OnnxRuntime(threads=1)).open(fixed) as runner,
        pytest.raises(DataError, match="'y' does not say"),
    ):
        runner.run({"x": values})
