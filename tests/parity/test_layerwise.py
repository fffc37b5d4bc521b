from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.artifacts import OnnxArtifact
from linglos_deploy.backends.cpu import CpuFeatures
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.choices import Precision
from linglos_deploy.codec import from_json, to_json
from linglos_deploy.errors import DataError
from linglos_deploy.parity.int8_modes import compare_int8_modes
from linglos_deploy.parity.layerwise import behind_choices, check_layers, compare_layers
from linglos_deploy.parity.recording import record
from linglos_deploy.reports.parity import LayerReport
from tests.backends.graphs import save

X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def chain(path: Path, *, second: float = 3.0, names: tuple[str, str, str] = ("a", "b", "c")) -> OnnxArtifact:
    """Three multiplications in a row, by 2, by ``second``, by 4; and the batch size, an integer."""
    first, middle, last = names
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["image", "k2"], [first], "one"),
            helper.make_node("Shape", [first], ["shape"], "shape"),
            helper.make_node("Add", [first, "noise"], [middle], "two"),
            helper.make_node("Mul", [middle, "k4"], [last], "three"),
        ],
        "chain",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 4])],
        [
            helper.make_tensor_value_info(last, TensorProto.FLOAT, ["batch", 4]),
            helper.make_tensor_value_info("shape", TensorProto.INT64, [2]),
        ],
        [
            numpy_helper.from_array(np.float32(2), "k2"),
            numpy_helper.from_array(np.array([0, 0, 0, second], np.float32), "noise"),
            numpy_helper.from_array(np.float32(4), "k4"),
        ],
    )
    return save(graph, path)


def test_the_first_deviating_tensor_is_named_in_graph_order(tmp_path: Path) -> None:
    report = compare_layers(
        chain(tmp_path / "a.onnx"),
        chain(tmp_path / "b.onnx", second=30.0),
        [{"image": X[:2]}, {"image": X[2:]}],
        runtime=OnnxRuntime(threads=1),
    )

    assert [layer.tensor for layer in report.layers] == ["a", "b", "c"]
    assert [layer.node for layer in report.layers] == ["one", "two", "three"]
    assert report.layers[0].metrics.max_abs == 0
    assert report.layers[1].metrics.max_abs == pytest.approx(27)
    assert (report.first_beyond, report.samples) == ("b", 3)
    assert from_json(LayerReport, to_json(report), source="test") == report


@pytest.mark.parametrize("reuse_outputs", [False, True])
def test_equal_graphs_deviate_nowhere(tmp_path: Path, reuse_outputs: bool) -> None:
    graph = chain(tmp_path / "a.onnx")
    batches = [{"image": X[:2]}, {"image": X[1:]}]
    report = compare_layers(graph, graph, batches, runtime=OnnxRuntime(threads=1, reuse_outputs=reuse_outputs))

    assert report.first_beyond is None
    assert onnx.load(graph.path).graph.output[0].name == "c"


def reshaping(path: Path, order: list[int]) -> OnnxArtifact:
    """``y = transpose(transpose(x) + 1)``, whose inner tensor has the axes in ``order``."""
    back = [order.index(axis) for axis in range(3)]
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", ["image"], ["turned"], "turn", perm=order),
            helper.make_node("Add", ["turned", "one"], ["added"], "add"),
            helper.make_node("Transpose", ["added"], ["y"], "back", perm=back),
        ],
        "reshaping",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2, 3])],
        [numpy_helper.from_array(np.float32(1), "one")],
    )
    return save(graph, path)


@pytest.mark.parametrize("batch", [1, 5])
def test_an_inner_tensor_of_another_shape_is_a_finding_and_the_rest_is_compared(tmp_path: Path, batch: int) -> None:
    images = np.random.default_rng(0).normal(size=(batch, 2, 3)).astype(np.float32)
    report = compare_layers(
        reshaping(tmp_path / "a.onnx", [0, 1, 2]),
        reshaping(tmp_path / "b.onnx", [0, 2, 1]),
        [{"image": images}],
        runtime=OnnxRuntime(threads=1),
    )
    assert [(found.tensor, found.node) for found in report.misshapen] == [("turned", "turn"), ("added", "add")]
    assert (report.misshapen[0].expected, report.misshapen[0].found) == ((batch, 2, 3), (batch, 3, 2))
    assert [layer.tensor for layer in report.layers] == ["y"]
    assert report.first_beyond == "turned"
    assert from_json(LayerReport, to_json(report), source="test") == report
    (finding,) = check_layers(report, Precision.INT8, {})
    assert (finding.passed, finding.node) == (False, "turn")
    assert not check_layers(report, Precision.FP32, {})  # two exports may give one name to two tensors


def test_tensors_of_other_names_are_left_out(tmp_path: Path) -> None:
    report = compare_layers(
        chain(tmp_path / "a.onnx"),
        chain(tmp_path / "b.onnx", names=("a", "other", "c")),
        [{"image": X}],
        runtime=OnnxRuntime(threads=1),
    )
    assert [layer.tensor for layer in report.layers] == ["a", "c"]


def test_tensors_behind_a_choice_are_left_out_where_rows_have_no_fixed_order() -> None:
    nodes = [
        helper.make_node("Relu", ["image"], ["before"]),
        helper.make_node("TopK", ["before", "k"], ["values", "places"], axis=1),
        helper.make_node("Cast", ["places"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Neg", ["before"], ["beside"]),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 4])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("values", "numbers", "beside")],
            [numpy_helper.from_array(np.array([2]), "k")],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
    )
    assert behind_choices(model.graph) == {"values", "places", "numbers"}


def test_graphs_with_nothing_in_common_and_no_images_are_refused(tmp_path: Path) -> None:
    graph = chain(tmp_path / "a.onnx")
    stranger = chain(tmp_path / "b.onnx", names=("x", "y", "z"))
    with pytest.raises(DataError, match="no tensor in common"):
        compare_layers(graph, stranger, [{"image": X}], runtime=OnnxRuntime(threads=1))
    with pytest.raises(DataError, match="nothing to compare"):
        compare_layers(graph, graph, [], runtime=OnnxRuntime(threads=1))


OLD = CpuFeatures(model="Old CPU", architecture="x86_64", instructions=("avx2",))
NEW = CpuFeatures(model="New CPU", architecture="x86_64", instructions=("avx2", "avx512_vnni"))


class Scripted:
    """A backend that adds noise to the image."""

    name = "scripted"

    def __init__(self, make: Any, noise: float) -> None:
        self.make, self.noise = make, noise

    def open(self, artifact: object, *, device: object = None) -> Any:
        from contextlib import nullcontext

        random = np.random.default_rng(1)
        return nullcontext(self.make(y=lambda x: x + self.noise * random.normal(size=x.shape)))


def test_a_fast_mode_that_answers_differently_is_warned_of_with_both_cosines(tmp_path: Path, runner: Any) -> None:
    batches = [{"image": X}]
    reference = record(runner(y=lambda x: x), batches, out=tmp_path / "r")
    model = chain(tmp_path / "a.onnx")

    found = compare_int8_modes(
        reference, model, batches, exact=Scripted(runner, 0.01), fast=Scripted(runner, 5.0), cpu=OLD
    )
    assert found.exact_cosine > 0.99 > found.fast_cosine
    assert found.warning is not None
    assert "Old CPU" in found.warning
    assert "no VNNI" in found.warning
    assert f"{found.fast_cosine:.4f}" in found.warning
    assert f"{found.exact_cosine:.4f}" in found.warning

    newer = compare_int8_modes(
        reference, model, batches, exact=Scripted(runner, 0.01), fast=Scripted(runner, 5.0), cpu=NEW
    )
    assert "no VNNI" not in (newer.warning or "")


def test_modes_that_agree_need_no_warning(tmp_path: Path, runner: Any) -> None:
    batches = [{"image": X}]
    reference = record(runner(y=lambda x: x), batches, out=tmp_path / "r")
    found = compare_int8_modes(
        reference, chain(tmp_path / "a.onnx"), batches, exact=Scripted(runner, 0.01), fast=Scripted(runner, 0.01)
    )
    assert found.warning is None
