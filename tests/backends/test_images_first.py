from __future__ import annotations

from pathlib import Path

import numpy as np

from linglos_deploy.artifacts import open_onnx
from linglos_deploy.backends.images_first import ImagesFirst, images_first, in_layout
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from tests.backends.graphs import saturating_graph
from tests.verbs.graphs import voice, voice_data


def test_images_come_first_wherever_the_graph_has_them(tmp_path: Path) -> None:
    graph = open_onnx(voice(tmp_path / "voice.onnx"))
    with np.load(voice_data(tmp_path / "voice.npz", 5)) as stored:
        batch = dict(stored)
    moved = images_first(batch, graph.signature)
    assert {name: array.shape for name, array in moved.items()} == {"input": (5, 6), "state": (5, 2, 4), "rate": (5,)}
    np.testing.assert_array_equal(moved["state"][3], batch["state"][:, 3])
    runtime = OnnxRuntime(threads=1)
    with runtime.open(graph) as plain, ImagesFirst(runtime).open(graph) as runner:
        expected = np.array(plain.run(batch)["output"])
        found = np.asarray(runner.run(moved)["output"])
    assert found.shape == (5, 4)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_images_are_run_together_unless_they_differ_where_a_graph_has_one_value_for_all(tmp_path: Path) -> None:
    graph = open_onnx(voice(tmp_path / "voice.onnx"))
    with np.load(voice_data(tmp_path / "voice.npz", 3)) as stored:
        moved = dict(images_first(dict(stored), graph.signature))
    (layout,) = in_layout(moved, graph.signature)
    assert {name: array.shape for name, array in layout.items()} == {"input": (3, 6), "state": (2, 3, 4), "rate": ()}
    moved["rate"] = np.array([8000, 8000, 16000])
    each = in_layout(moved, graph.signature)
    assert [int(layout["rate"]) for layout in each] == [8000, 8000, 16000]
    assert [layout["state"].shape for layout in each] == [(2, 1, 4)] * 3


def test_a_graph_with_images_in_front_runs_as_it_is(tmp_path: Path) -> None:
    graph = saturating_graph(tmp_path / "model.onnx")
    batch = {"x": np.zeros((3, 64, 4, 4), np.float32)}
    assert images_first(batch, graph.signature) is batch
    with ImagesFirst(OnnxRuntime(threads=1)).open(graph) as runner:
        assert np.asarray(runner.run(batch)["y"]).shape == (3, 8, 4, 4)
