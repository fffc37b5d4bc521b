"""Outputs are compared image by image wherever a graph has its images: behind layers, last, among tokens, nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from linglos_deploy.artifacts import open_onnx
from linglos_deploy.backends.images_first import ImagesFirst
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.errors import DataError
from linglos_deploy.graph.axes import ImagesAt, NotApart
from linglos_deploy.parity.layerwise import compare_layers
from linglos_deploy.parity.recording import Recording, record
from linglos_deploy.reports.parity import LayerReport, ParityReport
from linglos_deploy.verbs.check_parity import ParityRequest, check

NODE = helper.make_node
TO_LAYERS = [NODE("Unsqueeze", ["h", "first"], ["one"]), NODE("Mul", ["one", "layers"], ["layered"])]
"""(N, 5, 3) becomes (2, N, 5, 3)."""

BODIES: dict[str, list[onnx.NodeProto]] = {
    "first": [NODE("Identity", ["h"], ["y"])],
    "behind layers": [*TO_LAYERS, NODE("Identity", ["layered"], ["y"])],
    "last": [NODE("Transpose", ["h"], ["y"], perm=[1, 2, 0])],
    "tokens": [NODE("Reshape", ["h", "rows"], ["y"])],
    "positions": [NODE("Transpose", ["h"], ["t"], perm=[1, 0, 2]), NODE("Reshape", ["t", "rows"], ["y"])],
    "nowhere": [NODE("Identity", ["layers"], ["y"])],
    "a number": [NODE("Squeeze", ["scale"], ["y"])],
    "mean of all": [NODE("ReduceMean", ["h"], ["y"], keepdims=0)],
}
"""What makes ``y`` of ``h``, an image's 5 x 3 values."""

ONE_IMAGE = {
    "first": (5, 3),
    "behind layers": (2, 1, 5, 3),
    "last": (5, 3, 1),
    "tokens": (5, 3),
    "positions": (5, 3),
    "nowhere": (2, 1, 1, 1),
    "a number": (),
    "mean of all": (),
}
PLACES = {
    "first": ImagesAt(0),
    "behind layers": ImagesAt(1),
    "last": ImagesAt(2),
    "tokens": ImagesAt(0, inner=5),
    "positions": ImagesAt(0, outer=5),
    "nowhere": NotApart.SHARED,
    "a number": NotApart.SHARED,
    "mean of all": NotApart.MIXED,
}
BATCHES = ["batch", 1, 3]


def graph(
    path: Path, body: list[onnx.NodeProto], batch: int | str, *, before: list[onnx.NodeProto] | None = None
) -> Path:
    """Save a graph from ``x`` to ``y``; ``h`` is ``x``, or what ``before`` makes of it."""
    constants = {
        "first": np.array([0], np.int64),
        "rows": np.array([-1, 3], np.int64),
        "layers": np.array([1, 3], np.float32).reshape(2, 1, 1, 1),
        "scale": np.array([4], np.float32),
        "shift": np.array([0, 0.01, 0], np.float32),
    }
    nodes = [*(before or [NODE("Identity", ["x"], ["h"])]), *body]
    read = {name for node in nodes for name in node.input}
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [batch, 5, 3])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items() if name in read],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, 5, 3)).astype(np.float32)


def judged(candidate: Path, reference: Path, *, count: int = 7, batch: int = 4) -> ParityReport:
    data = candidate.parent / "data.npz"
    np.savez(data, x=images(count))
    return check(ParityRequest(candidate, reference=reference, data=data, threads=1, batch=batch)).reports[0]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("body", BODIES)
def test_an_image_comes_out_as_it_does_alone(body: str, batch: int | str, count: int, tmp_path: Path) -> None:
    alone = open_onnx(graph(tmp_path / "alone.onnx", BODIES[body], "n"))
    artifact = open_onnx(graph(tmp_path / "m.onnx", BODIES[body], batch))
    runtime, x = OnnxRuntime(threads=1), images(count)
    with runtime.open(alone) as plain, ImagesFirst(runtime).open(artifact) as runner:
        if (body, batch) == ("mean of all", 3):  # one answer for three images says nothing of one of them
            with pytest.raises(DataError, match="Output 'y' does not say which part belongs to which image"):
                runner.run({"x": x})
            return
        found = np.asarray(runner.run({"x": x})["y"])
        expected = [np.array(plain.run({"x": x[place : place + 1]})["y"]) for place in range(count)]
        assert found.shape == (count, *ONE_IMAGE[body])
        np.testing.assert_array_equal(found, np.stack(expected).reshape(found.shape))
        if (batch == "batch" and count > 1) or batch == 3:
            assert runner.places["y"] == PLACES[body]


def test_one_answer_for_the_images_of_a_fixed_batch_is_refused_by_name(tmp_path: Path) -> None:
    reference = graph(tmp_path / "one.onnx", BODIES["mean of all"], 3)
    with pytest.raises(DataError, match="Output 'y' does not say which part belongs to which image"):
        judged(reference, reference)


@pytest.mark.parametrize("candidate", BATCHES)
@pytest.mark.parametrize("reference", BATCHES)
@pytest.mark.parametrize("body", [name for name in BODIES if name != "mean of all"])
def test_a_graph_agrees_with_itself_whatever_its_batch(
    body: str, reference: int | str, candidate: int | str, tmp_path: Path
) -> None:
    report = judged(
        graph(tmp_path / "candidate.onnx", BODIES[body], candidate),
        graph(tmp_path / "reference.onnx", BODIES[body], reference),
    )
    assert report.passed, report.findings
    (output,) = (output for output in report.outputs if output.images == "data")
    assert output.metrics.samples == 7


@pytest.mark.parametrize("body", [name for name in BODIES if isinstance(PLACES[name], ImagesAt)])
@pytest.mark.parametrize("batch", BATCHES)
def test_a_deviation_fails_wherever_the_images_lie(body: str, batch: int | str, tmp_path: Path) -> None:
    report = judged(
        graph(tmp_path / "candidate.onnx", BODIES[body], batch, before=[NODE("Add", ["x", "shift"], ["h"])]),
        graph(tmp_path / "reference.onnx", BODIES[body], "n"),
    )
    assert not report.passed


@pytest.mark.parametrize("layer", [0, 1])
def test_every_layer_of_every_image_is_compared(layer: int, tmp_path: Path) -> None:
    """Two layers of many images: along the first axis there are fewer things than images."""
    moved = helper.make_tensor("moved", onnx.TensorProto.FLOAT, [2, 1, 1, 1], [1.0, 3.1] if layer else [1.1, 3.0])
    body = [NODE("Constant", [], ["layers2"], value=moved), TO_LAYERS[0], NODE("Mul", ["one", "layers2"], ["y"])]
    report = judged(
        graph(tmp_path / "candidate.onnx", body, "n"),
        graph(tmp_path / "reference.onnx", BODIES["behind layers"], "n"),
    )
    assert not report.passed
    (output,) = (output for output in report.outputs if output.images == "data")
    assert output.metrics.samples == 7


SWAPPED: Mapping[str, tuple[str, list[onnx.NodeProto]]] = {
    "images before layers": ("behind layers", [*TO_LAYERS, NODE("Transpose", ["layered"], ["y"], perm=[1, 0, 2, 3])]),
    "images first instead of last": ("last", [NODE("Identity", ["h"], ["y"])]),
    "tokens not put together": ("tokens", [NODE("Identity", ["h"], ["y"])]),
    "tokens in another order": ("tokens", BODIES["positions"]),
    "a constant for each image": (
        "nowhere",
        [NODE("Mul", ["one", "scale"], ["o"]), NODE("Sub", ["o", "o"], ["z"]), NODE("Add", ["z", "layers"], ["y"])],
    ),
}


@pytest.mark.parametrize("case", SWAPPED)
@pytest.mark.parametrize("count", [2, 7])
def test_images_along_another_axis_than_the_references_are_no_agreement(case: str, count: int, tmp_path: Path) -> None:
    body, other = SWAPPED[case]
    if case == "a constant for each image":
        other = [TO_LAYERS[0], *other]
    report = judged(
        graph(tmp_path / "candidate.onnx", other, "n"),
        graph(tmp_path / "reference.onnx", BODIES[body], "n"),
        count=count,
    )
    assert not report.passed


LEAKS = {
    "small": [NODE("Mul", ["mean", "shift"], ["little"]), NODE("Add", ["x", "little"], ["h"])],
    "large": [NODE("Sub", ["x", "mean"], ["h"])],
}


@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("body", ["behind layers", "last", "first", "positions"])
def test_a_leak_between_images_is_seen_wherever_they_lie(body: str, leak: str, tmp_path: Path) -> None:
    before = [NODE("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1), *LEAKS[leak]]
    made = graph(tmp_path / "leaking.onnx", BODIES[body], "n", before=before)
    report = judged(made, made)
    (finding,) = (it for it in report.findings if "any place of a batch" in it.name)
    if (body, leak) == ("positions", "large"):  # merged with others, and no cut gives what an image gives alone
        assert finding.passed is None
    else:
        assert finding.passed is False
        assert not report.passed


def test_one_answer_for_all_images_is_compared_alone_and_the_verdict_says_so(tmp_path: Path) -> None:
    made = graph(tmp_path / "mean.onnx", BODIES["mean of all"], "n")
    report = judged(made, made)
    (finding,) = (it for it in report.findings if "any place of a batch" in it.name)
    assert report.passed
    assert finding.passed is None


def test_a_recording_keeps_where_the_images_lie(tmp_path: Path) -> None:
    for body in ("behind layers", "positions", "a number"):
        artifact = open_onnx(graph(tmp_path / "m.onnx", BODIES[body], "n"))
        with ImagesFirst(OnnxRuntime(threads=1)).open(artifact) as runner:
            made = record(runner, [{"x": images(2)}], out=tmp_path / body)
        assert made.places == Recording.load(tmp_path / body).places == {"y": PLACES[body]}


@pytest.mark.parametrize(("batch", "largest"), [("n", 4), (1, 1), (3, 4)])
def test_inner_tensors_of_few_images_are_held_at_once(
    batch: int | str, largest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def counting(*arguments: Any, **options: Any) -> LayerReport:
        batches = list(arguments[2])
        sizes.extend(len(each["x"]) for each in batches)
        return compare_layers(*arguments[:2], batches, **options)

    monkeypatch.setattr("linglos_deploy.verbs.verdicts.compare_layers", counting)
    made = graph(tmp_path / "m.onnx", BODIES["behind layers"], batch)
    assert judged(made, made).passed
    assert max(sizes) == largest
    assert sum(sizes) == 4
