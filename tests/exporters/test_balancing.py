"""Scales of channels move by what pictures show: the answers stay, INT8 gains, and the same can be done again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from linglos_deploy.artifacts import OnnxArtifact, Step, load_onnx, open_onnx
from linglos_deploy.codec import from_json, to_json
from linglos_deploy.errors import ExportError
from linglos_deploy.exporters.balancing import ChannelsSeen, balance_again, balance_channels, balanced_tensors
from tests.exporters.test_equalization import CASES, TOKENS, C, answers, build, sqnr

LOUD = 3
READ = {
    "norm and Gemm": ("flat",),
    "norm and MatMul": ("normed",),
    "norm and convolution": ("planes",),
    "keys, gate and output": ("key", "mixed"),
    "depthwise and pointwise": ("wide_relu", "deep_relu"),
}
"""What layers read, by case; the gate stays in floating point."""


def written(model: onnx.ModelProto, folder: Path) -> OnnxArtifact:
    onnx.save(model, folder / "model.onnx")
    return open_onnx(folder / "model.onnx")


def seen(graph: OnnxArtifact, *, reach: float = 10.0) -> dict[str, ChannelsSeen]:
    """Return one channel that reaches further than the others, in every tensor."""
    magnitudes = np.where(np.arange(C) == LOUD, reach, 1.0)
    return dict.fromkeys(balanced_tensors(load_onnx(graph.path)), ChannelsSeen(magnitudes, np.square(magnitudes) / 9))


@pytest.mark.parametrize("case", READ)
def test_the_answers_stay_and_the_loud_channel_is_made_softer(case: str, tmp_path: Path) -> None:
    before = build(CASES[case][0], 1.0)
    graph = written(before, tmp_path)
    assert balanced_tensors(before) == READ[case]
    moved = balance_channels(graph, seen(graph), out=tmp_path / "moved.onnx")
    after = load_onnx(moved.path)
    for count in (1, 5):
        expected = answers(before, count=count)
        np.testing.assert_allclose(answers(after, count=count), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    moves = moved.lineage[-1].config["moved"]
    assert moves
    for move in moves:
        assert move["gain_db"] >= 0.5
        assert move["steps"].index(max(move["steps"])) == LOUD


def test_a_channel_that_only_pictures_make_loud_costs_int8_less(tmp_path: Path) -> None:
    """The norm's parameters are ordinary; what comes in makes one of its channels reach further, and softly read."""
    x = _pictures()
    graph = written(_read_softly(build(CASES["norm and MatMul"][0], 1.0)), tmp_path)
    values = answers(build(CASES["norm and MatMul"][0], 1.0, outputs=("y", "normed")), output="normed", x=x)
    flat = values.reshape(-1, C).astype(np.float64)
    shown = ChannelsSeen(np.abs(flat).max(axis=0), np.square(flat).mean(axis=0))
    moved = balance_channels(graph, {"normed": shown}, out=tmp_path / "moved.onnx")
    before, after = (
        sqnr(load_onnx(each.path), tmp_path, name, x=x) for name, each in {"before": graph, "after": moved}.items()
    )
    assert after > before + 3


def test_channels_that_reach_alike_stay_as_they_are(tmp_path: Path) -> None:
    graph = written(build(CASES["norm and MatMul"][0], 1.0), tmp_path)
    assert balance_channels(graph, seen(graph, reach=1.05), out=tmp_path / "moved.onnx") is graph
    assert balance_channels(graph, {}, out=tmp_path / "moved.onnx") is graph
    assert not (tmp_path / "moved.onnx").exists()


@pytest.mark.parametrize("reach", [0.0, np.inf, np.nan])
def test_what_says_nothing_usable_moves_nothing(reach: float, tmp_path: Path) -> None:
    graph = written(build(CASES["norm and MatMul"][0], 1.0), tmp_path)
    shown = ChannelsSeen(np.full(C, reach), np.full(C, reach))
    assert balance_channels(graph, {"normed": shown}, out=tmp_path / "moved.onnx") is graph


def test_what_was_moved_can_be_moved_again_to_the_bit(tmp_path: Path) -> None:
    graph = written(build(CASES["depthwise and pointwise"][0], 1.0), tmp_path)
    moved = balance_channels(graph, seen(graph), out=tmp_path / "moved.onnx")
    step = from_json(Step, to_json(moved.lineage[-1]), source="lineage")
    again = balance_again(graph, step, out=tmp_path / "again.onnx")
    assert again.digest == moved.digest != graph.digest
    strange = replace(step, config={"moved": [{**step.config["moved"][0], "maker": "nobody"}]})
    with pytest.raises(ExportError, match="cannot be moved as they were"):
        balance_again(graph, strange, out=tmp_path / "strange.onnx")


def _read_softly(model: onnx.ModelProto) -> onnx.ModelProto:
    for tensor in model.graph.initializer:
        if tensor.name == "head":
            weight = numpy_helper.to_array(tensor).copy()
            weight[LOUD] /= 15
            tensor.CopyFrom(numpy_helper.from_array(weight, "head"))
    return model


def _pictures() -> np.ndarray:
    """Return inputs of which one channel is far louder than the others."""
    x = np.random.default_rng(2).standard_normal((64, TOKENS, C)).astype(np.float32)
    x[..., LOUD] = np.copysign(15 + x[..., LOUD], x[..., LOUD])
    return x
