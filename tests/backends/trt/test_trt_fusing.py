"""Which INT8 layers become one kernel with what follows, by TensorRT's documented fusions, each from both sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.backends.trt.fusing import FusedLayer, FusionReport, Gives, fused_layers
from tests.commandline import enter, run


def pair(tensor: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [tensor, "scale", "zero"], [f"{tensor}/q"]),
        helper.make_node("DequantizeLinear", [f"{tensor}/q", "scale", "zero"], [f"{tensor}/dq"]),
    ]


def conv(data: str, out: str, *, group: int = 1) -> onnx.NodeProto:
    return helper.make_node("Conv", [data, "narrow" if group > 1 else "weight"], [out], name=out, group=group)


def examine(
    folder: Path, nodes: list[onnx.NodeProto], *, outputs: tuple[str, ...], constants: tuple[onnx.TensorProto, ...] = ()
) -> FusionReport:
    scale, zero = numpy_helper.from_array(np.float32(0.1), "scale"), numpy_helper.from_array(np.int8(0), "zero")
    weights = [
        helper.make_node("DequantizeLinear", [f"{name}/int8", "scale", "zero"], [name]) for name in ("weight", "narrow")
    ]
    stored = [
        numpy_helper.from_array(np.ones((4, channels, 1, 1), np.int8), f"{name}/int8")
        for name, channels in (("weight", 4), ("narrow", 1))
    ]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ("batch", 4, 8, 8))
    made = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph([*weights, *nodes], "g", [image], made, [scale, zero, *stored, *constants])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(model, strict_mode=True), folder / "model.onnx")
    return fused_layers(folder / "model.onnx")


def first(report: FusionReport) -> FusedLayer:
    return next(layer for layer in report.layers if layer.node == "a")


END = [conv("end/dq", "b")]


@pytest.mark.parametrize("activation", ["Relu", "Gelu", "Clip"])
def test_an_activation_function_and_the_pair_behind_it_join_the_layer(tmp_path: Path, activation: str) -> None:
    nodes = [
        *pair("x"),
        conv("x/dq", "a"),
        helper.make_node(activation, ["a"], ["end"], name="act"),
        *pair("end"),
        *END,
    ]
    report = examine(tmp_path, nodes, outputs=("b",))
    assert first(report) == FusedLayer("a", "Conv", False, Gives.INTEGERS, ("act",))
    assert [layer.gives for layer in report.layers] == [Gives.INTEGERS, Gives.FLOATS]
    assert report.roundings == 2
    assert report.summary.startswith("1 of 2 INT8 layers become one kernel with what follows and give integers, 50 %")


def test_what_is_not_in_the_catalog_ends_the_kernel(tmp_path: Path) -> None:
    nodes = [*pair("x"), conv("x/dq", "a"), helper.make_node("Mul", ["a", "a"], ["end"]), *pair("end"), *END]
    assert first(examine(tmp_path, nodes, outputs=("b",))).gives is Gives.FLOATS


@pytest.mark.parametrize(
    ("added", "gives", "reason"),
    [("x", Gives.FLOATS_TO_ROUND, "it is added to floats"), ("x/dq", Gives.INTEGERS, "")],
)
def test_a_sum_joins_and_its_pair_too_if_both_operands_are_integers(
    tmp_path: Path, added: str, gives: Gives, reason: str
) -> None:
    nodes = [*pair("x"), conv("x/dq", "a"), helper.make_node("Add", [added, "a"], ["end"], name="sum"), *pair("end")]
    layer = first(examine(tmp_path, [*nodes, *END], outputs=("b",)))
    assert (layer.gives, layer.reason, layer.with_it) == (gives, reason, ("sum",))


def test_a_constant_that_is_added_costs_nothing_and_a_sum_that_broadcasts_ends_the_kernel(tmp_path: Path) -> None:
    bias = numpy_helper.from_array(np.ones((1, 4, 1, 1), np.float32), "bias")
    nodes = [*pair("x"), conv("x/dq", "a"), helper.make_node("Add", ["a", "bias"], ["end"]), *pair("end"), *END]
    assert first(examine(tmp_path, nodes, outputs=("b",), constants=(bias,))).gives is Gives.INTEGERS
    mean = helper.make_node("GlobalAveragePool", ["x"], ["mean"])
    nodes = [*pair("x"), conv("x/dq", "a"), mean, helper.make_node("Add", ["a", "mean"], ["end"]), *pair("end"), *END]
    assert first(examine(tmp_path, nodes, outputs=("b",))).gives is Gives.FLOATS


@pytest.mark.parametrize("returned", [True, False])
def test_a_result_that_is_read_in_floating_point_too_is_rounded_apart(tmp_path: Path, returned: bool) -> None:
    beside = [] if returned else [helper.make_node("Sqrt", ["a"], ["seen"])]
    nodes = [*pair("x"), conv("x/dq", "a"), *pair("a"), conv("a/dq", "b"), *beside]
    layer = first(examine(tmp_path, nodes, outputs=("b", "a" if returned else "seen")))
    assert (layer.gives, layer.reason) == (Gives.FLOATS_TO_ROUND, "it is read in floating point too")


def test_depthwise_layers_are_told_apart_and_layers_in_floating_point_are_none(tmp_path: Path) -> None:
    nodes = [*pair("x"), conv("x/dq", "a", group=4), *pair("a"), conv("a/dq", "b"), conv("b", "c")]
    report = examine(tmp_path, nodes, outputs=("c",))
    assert [(layer.node, layer.depthwise) for layer in report.layers] == [("a", True), ("b", False)]


def test_the_command_says_that_no_engine_was_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examine(tmp_path, [*pair("x"), conv("x/dq", "a"), *pair("a"), conv("a/dq", "b")], outputs=("b",))
    enter(tmp_path, monkeypatch)
    shown = run("inspect", "model.onnx", "--target", "tensorrt").expect(0).stdout
    assert "1 of 2 INT8 layers" in shown
    assert "no engine was looked into" in " ".join(shown.split())
    assert run("inspect", "model.onnx", "--target", "tensorrt", "--json").expect(0).json["roundings"] == 2
