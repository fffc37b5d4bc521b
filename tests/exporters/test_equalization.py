"""Scales of channels move between layers: the answers stay, and INT8 survives channels far louder than others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.artifacts import OnnxArtifact, open_onnx
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.calibration.calibrate import calibrate
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.choices import Precision
from linglos_deploy.errors import UsageError
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.equalization import EqualizeChannels, Equalized
from linglos_deploy.graph.inputs import open_inputs
from linglos_deploy.graph.passes.running import run_passes
from linglos_deploy.quantization.apply import apply_plan
from linglos_deploy.quantization.plan import plan_quantization
from linglos_deploy.quantization.scheme import QuantScheme

C, TOKENS, LOUD = 8, 6, (1, 5)
_node = helper.make_node


def loudness(factor: float) -> np.ndarray:
    return np.where(np.isin(np.arange(C), LOUD), factor, 1.0)


class Weights:
    """Random weights; those that make channels are loud, those that read them soft."""

    def __init__(self, factor: float) -> None:
        self.rng = np.random.default_rng(0)
        self.factor = loudness(factor)
        self.made: dict[str, np.ndarray] = {}

    def __call__(self, name: str, *shape: int, makes: int | None = None, reads: int | None = None) -> None:
        values = self.rng.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))
        for axis, factor in ((makes, self.factor), (reads, 1 / self.factor)):
            if axis is not None:
                values = values * factor.reshape([-1 if place == axis else 1 for place in range(len(shape))])
        self.made[name] = values.astype(np.float32)


def norm(w: Weights) -> None:
    w("gamma", C)
    w("beta", C)
    w.made["gamma"] = ((1 + 0.1 * w.made["gamma"]) * w.factor).astype(np.float32)
    w.made["beta"] = (0.2 * w.made["beta"] * w.factor).astype(np.float32)


def norm_and_gemm(w: Weights) -> list[onnx.NodeProto]:
    norm(w)
    w("head", 5, C, reads=1)
    w("bias", 5)
    return [
        _node("LayerNormalization", ["x", "gamma", "beta"], ["normed"], "norm"),
        _node("Reshape", ["normed", "rows"], ["flat"], "flatten"),
        _node("Gemm", ["flat", "head", "bias"], ["y"], "head", transB=1),
    ]


def norm_and_matmul(w: Weights) -> list[onnx.NodeProto]:
    norm(w)
    w("head", C, 5, reads=0)
    return [
        _node("LayerNormalization", ["x", "gamma", "beta"], ["normed"], "norm"),
        _node("MatMul", ["normed", "head"], ["y"], "head"),
    ]


def norm_and_convolution(w: Weights) -> list[onnx.NodeProto]:
    norm(w)
    w("kernel", 5, C, 2, reads=1)
    return [
        _node("LayerNormalization", ["x", "gamma", "beta"], ["normed"], "norm"),
        _node("Transpose", ["normed"], ["planes"], "turn", perm=[0, 2, 1]),
        _node("Conv", ["planes", "kernel"], ["y"], "conv"),
    ]


def padded_convolution(w: Weights) -> list[onnx.NodeProto]:
    nodes = norm_and_convolution(w)
    nodes[-1].attribute.append(helper.make_attribute("pads", [1, 1]))
    return nodes


def keys_times_context(w: Weights) -> list[onnx.NodeProto]:
    w("wk", C, C, makes=1)
    w("bk", C, makes=0)
    w("gate", C, 1, reads=0)
    w("wo", C, 5, reads=0)
    return [
        _node("MatMul", ["x", "wk"], ["k0"], "keys"),
        _node("Add", ["k0", "bk"], ["key"], "keys_bias"),
        _node("MatMul", ["key", "gate"], ["score"], "gate"),
        _node("Sigmoid", ["score"], ["weight"], "sigmoid"),
        _node("Mul", ["key", "weight"], ["mixed"], "mix"),
        _node("MatMul", ["mixed", "wo"], ["y"], "out"),
    ]


def depthwise_and_pointwise(w: Weights) -> list[onnx.NodeProto]:
    w("expand", C, C, 1, makes=0)
    w("expand_bias", C, makes=0)
    w("depthwise", C, 1, 3)  # what comes in loud goes out loud
    w("project", 5, C, 1, reads=1)
    return [
        _node("Transpose", ["x"], ["planes"], "turn", perm=[0, 2, 1]),
        _node("Conv", ["planes", "expand", "expand_bias"], ["wide"], "expand"),
        _node("Relu", ["wide"], ["wide_relu"], "relu1"),
        _node("Conv", ["wide_relu", "depthwise"], ["deep"], "depthwise", group=C, pads=[1, 1]),
        _node("Relu", ["deep"], ["deep_relu"], "relu2"),
        _node("Conv", ["deep_relu", "project"], ["y"], "project"),
    ]


CASES: dict[str, tuple[Callable[[Weights], list[onnx.NodeProto]], set[str]]] = {
    "norm and Gemm": (norm_and_gemm, {"norm"}),
    "norm and MatMul": (norm_and_matmul, {"norm"}),
    "norm and convolution": (norm_and_convolution, {"norm"}),
    "norm and padded convolution": (padded_convolution, {"norm"}),
    "keys, gate and output": (keys_times_context, {"keys"}),
    "depthwise and pointwise": (depthwise_and_pointwise, {"depthwise"}),
}


def build(
    make: Callable[[Weights], list[onnx.NodeProto]], factor: float, *, outputs: tuple[str, ...] = ("y",)
) -> onnx.ModelProto:
    weights = Weights(factor)
    nodes = make(weights)
    graph = helper.make_graph(
        nodes,
        "loud",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", TOKENS, C])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        initializer=[
            *(numpy_helper.from_array(value, name) for name, value in weights.made.items()),
            numpy_helper.from_array(np.array([-1, C], np.int64), "rows"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def equalized(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[Equalized]]:
    each = EqualizeChannels()
    return run_passes(model, each), each.done


def answers(
    model: onnx.ModelProto, seed: int = 0, count: int = 3, output: str = "y", *, x: np.ndarray | None = None
) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    if x is None:
        x = np.random.default_rng(seed).standard_normal((count, TOKENS, C)).astype(np.float32)
    return np.asarray(session.run([output], {"x": x})[0])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("factor", [20.0, 150.0])
def test_the_answers_stay_and_the_scales_move(case: str, factor: float) -> None:
    make, makers = CASES[case]
    before = build(make, factor)
    after, done = equalized(before)
    assert makers <= {each.maker for each in done}
    assert all(each.gain_db >= 6 and each.readers for each in done)
    for count in (1, 5):
        expected = answers(before, count=count)
        np.testing.assert_allclose(answers(after, count=count), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("case", CASES)
def test_networks_without_loud_channels_stay_as_they_are(case: str) -> None:
    before = build(CASES[case][0], 1.0)
    after, done = equalized(before)
    assert not done
    assert after.SerializeToString(deterministic=True) == run_passes(before).SerializeToString(deterministic=True)


def _with(case: str, change: Callable[[list[onnx.NodeProto]], None]) -> Callable[[Weights], list[onnx.NodeProto]]:
    def make(w: Weights) -> list[onnx.NodeProto]:
        nodes = CASES[case][0](w)
        change(nodes)
        return nodes

    return make


def _gelu_between(nodes: list[onnx.NodeProto]) -> None:
    nodes.insert(1, _node("Gelu", ["normed"], ["bent"], "gelu"))
    nodes[-1].input[0] = "bent"


def _residual(nodes: list[onnx.NodeProto]) -> None:
    nodes.append(_node("Add", ["normed", "x"], ["sum"], "residual"))


def _times_itself(nodes: list[onnx.NodeProto]) -> None:
    nodes.insert(1, _node("Relu", ["normed"], ["half"], "relu"))
    nodes.insert(2, _node("Mul", ["normed", "half"], ["squared"], "square"))
    nodes[-1].input[0] = "squared"


def _square(nodes: list[onnx.NodeProto]) -> None:
    nodes.insert(1, _node("Mul", ["normed", "normed"], ["squared"], "square"))
    nodes[-1].input[0] = "squared"


def _positions_mixed(nodes: list[onnx.NodeProto]) -> None:
    nodes.insert(1, _node("Transpose", ["normed"], ["turned"], "turn", perm=[0, 2, 1]))
    nodes.insert(2, _node("Reshape", ["turned", "shape"], ["mixed"], "mix"))
    nodes[-1].input[0] = "mixed"


@pytest.mark.parametrize(
    "change", [_gelu_between, _residual, _times_itself, _square], ids=lambda change: change.__name__
)
def test_what_a_scale_does_not_pass_through_keeps_it(change: Callable[[list[onnx.NodeProto]], None]) -> None:
    assert not equalized(build(_with("norm and MatMul", change), 150.0))[1]


def test_channels_that_a_reshape_mixes_with_positions_keep_their_scales() -> None:
    def make(w: Weights) -> list[onnx.NodeProto]:
        w.made["shape"] = np.array([-1, TOKENS, C], np.int64)  # type: ignore[assignment]
        return _with("norm and MatMul", _positions_mixed)(w)

    before = build(make, 150.0)
    after, _ = equalized(before)
    expected = answers(before)
    np.testing.assert_allclose(answers(after), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_an_output_of_the_graph_keeps_its_values() -> None:
    assert not equalized(build(norm_and_matmul, 150.0, outputs=("y", "normed")))[1]


def test_weights_that_others_read_too_are_copied() -> None:
    def make(w: Weights) -> list[onnx.NodeProto]:
        return [*norm_and_matmul(w), _node("MatMul", ["x", "head"], ["z"], "other")]

    before = build(make, 150.0, outputs=("y", "z"))
    after, done = equalized(before)
    assert done
    for output in ("y", "z"):
        expected = answers(before, output=output)
        found = answers(after, output=output)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def sqnr(model: onnx.ModelProto, folder: Path, name: str, *, x: np.ndarray | None = None) -> float:
    """Return what INT8 leaves of a graph, in decibels."""
    onnx.save(model, folder / f"{name}.onnx")
    graph = open_onnx(folder / f"{name}.onnx")
    if x is None:
        x = np.random.default_rng(1).standard_normal((64, TOKENS, C)).astype(np.float32)
    table = _table(graph, x, folder)
    artifact = apply_plan(
        graph, plan_quantization(graph, table, QuantScheme(narrow=True)), out=folder / f"{name}.int8.onnx"
    )
    with OnnxRuntime(threads=1).open(artifact) as runner:
        found = np.array(runner.run({"x": x})["y"], np.float64)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = np.asarray(session.run(["y"], {"x": x})[0], np.float64)
    return float(10 * np.log10(np.square(expected).sum() / np.square(found - expected).sum()))


def _table(graph: OnnxArtifact, x: np.ndarray, folder: Path) -> CalibrationTable:
    np.savez(folder / "x.npz", x=x)
    return calibrate(
        graph, open_inputs(folder / "x.npz", graph, None), runtime=OnnxRuntime(threads=1, reuse_outputs=True)
    )


@pytest.mark.parametrize(
    "case", ["norm and Gemm", "norm and MatMul", "keys, gate and output", "depthwise and pointwise"]
)
def test_int8_survives_loud_channels(case: str, tmp_path: Path) -> None:
    plain = sqnr(build(CASES[case][0], 1.0), tmp_path, "plain")
    loud = build(CASES[case][0], 150.0)
    broken = sqnr(loud, tmp_path, "broken")
    mended = sqnr(equalized(loud)[0], tmp_path, "mended")
    assert broken < plain - 10
    assert mended > plain - 3


def test_parts_are_left_out_by_name_only() -> None:
    assert ExportConfig(precision=Precision.INT8, without=("equalize",)).without == ("equalize",)
    with pytest.raises(UsageError, match="no part 'equalise'"):
        ExportConfig(without=("equalise",))
