from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from linglos_deploy.artifacts import OnnxArtifact, open_onnx
from linglos_deploy.errors import LinglosError, UsageError
from linglos_deploy.graph.feeds import Sizes
from linglos_deploy.graph.inputs import open_inputs, preprocessing_for, synthetic_inputs
from linglos_deploy.images.layout import Layout
from linglos_deploy.images.options import PreprocessOptions, parse_numbers
from linglos_deploy.images.preprocessing import Color, Interpolation, PreprocessSpec


class Heard:
    """A progress that keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def stage(self, name: str, total: int | None = None):  # type: ignore[no-untyped-def]
        from linglos_deploy.progress import SILENT

        return SILENT.stage(name, total)

    def warn(self, message: str) -> None:
        self.said.append(message)


def graph(folder: Path, *inputs: tuple[str, int, list[int | str | None]], metadata: str | None = None) -> OnnxArtifact:
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"], name=name) for name, _, _ in inputs]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [value(*spec) for spec in inputs],
            [value(f"{name}_out", kind, shape) for name, kind, shape in inputs],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    if metadata is not None:
        helper.set_model_props(model, {"linglos.preprocessing": metadata})
    onnx.save(model, folder / "theirs.onnx")
    return open_onnx(folder / "theirs.onnx")


FLOAT, BYTE = TensorProto.FLOAT, TensorProto.UINT8
HALF = PreprocessOptions(mean=(0.5,), std=(0.25,))


def test_nothing_is_assumed_where_nobody_says_anything(tmp_path: Path) -> None:
    model = graph(tmp_path, ("x", FLOAT, ["n", 3, 8, 8]))
    assert preprocessing_for(model) is None
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="does not say how images become its input") as raised:
        open_inputs(tmp_path, model, None)
    assert "--mean" in str(raised.value.next_step)


def test_options_and_the_graph_s_shape_make_a_preprocessing_that_is_said_in_full(tmp_path: Path) -> None:
    heard = Heard()
    model = graph(tmp_path, ("x", FLOAT, ["n", 20, 30, 1]))
    spec = preprocessing_for(model, HALF, progress=heard)
    assert spec == PreprocessSpec((20, 30), Interpolation.BILINEAR, 1.0, (0.5,), (0.25,), Color.GREY, Layout.NHWC)
    (said,) = heard.said
    for part in ("20 x 30", "grey", "nhwc", "bilinear", "crop 1", "scale 255", "mean 0.5", "std 0.25"):
        assert part in said


@pytest.mark.parametrize(
    ("shape", "options", "asked"),
    [
        (["n", 3, 8, 8], PreprocessOptions(mean=(0.5,)), "--std"),
        (["n", 3, 8, 8], PreprocessOptions(scale=1.0), "--mean and --std"),
        (["n", 3, None, None], HALF, "--imgsz"),
        (["n", None, None, None], HALF, "--layout"),
        (["n", 3, 8, 8], PreprocessOptions(mean=(0.5,), std=(1.0,), color=Color.GREY), "--color"),
        (["n", 3, 8, 8], PreprocessOptions(mean=(0.5,), std=(1.0,), layout=Layout.NHWC), "--layout"),
        (["n", 3, 8, 8], PreprocessOptions(mean=(0.5,), std=(1.0,), input_size=(8, 9)), "--imgsz"),
        (["n", 3, 8, 8], PreprocessOptions(mean=(0.5, 0.5), std=(1.0,)), "--mean"),
        (["n", 3, 8], HALF, "does not take images"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_asked_for_by_option(
    shape: list[int | str | None], options: PreprocessOptions, asked: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as raised:
        preprocessing_for(graph(tmp_path, ("x", FLOAT, shape)), options)
    assert asked in str(raised.value)


def test_a_layout_that_the_shape_leaves_open_comes_with_its_colours(tmp_path: Path) -> None:
    model = graph(tmp_path, ("x", FLOAT, ["n", None, None, None]))
    options = PreprocessOptions((6, 4), (0.5,), (0.5,), color=Color.RGBA, layout=Layout.NHWC)
    spec = preprocessing_for(model, options)
    assert spec is not None
    assert spec.input_shape() == (6, 4, 4)


def test_what_the_user_says_goes_before_what_the_graph_says_and_is_repeated(tmp_path: Path) -> None:
    heard = Heard()
    model = graph(tmp_path, ("image", FLOAT, ["n", 3, 8, 8]), metadata='{"input_size": [8, 8]}')
    assert preprocessing_for(model, progress=heard) == PreprocessSpec((8, 8))
    assert not heard.said
    changed = preprocessing_for(model, PreprocessOptions(mean=(0.5,)), progress=heard)
    assert changed == PreprocessSpec((8, 8), mean=(0.5, 0.5, 0.5))
    assert len(heard.said) == 1


def test_bytes_are_not_normalized_and_options_that_would_are_refused(tmp_path: Path) -> None:
    model = graph(tmp_path, ("x", BYTE, ["n", 3, 8, 8]))
    with pytest.raises(UsageError, match="takes bytes"):
        preprocessing_for(model, HALF)
    spec = preprocessing_for(model, PreprocessOptions(color=Color.BGR))
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    (batch,) = open_inputs(tmp_path, model, spec).batches(4, signature=model.signature)
    np.testing.assert_array_equal(batch["x"], noise[None, ..., ::-1].transpose(0, 3, 1, 2))


def test_a_grey_model_with_channels_last_and_half_precision_gets_what_it_takes(tmp_path: Path) -> None:
    model = graph(tmp_path, ("x", TensorProto.FLOAT16, ["n", 8, 8, 1]))
    Image.new("RGB", (8, 8), (255, 255, 255)).save(tmp_path / "a.png")
    dataset = open_inputs(tmp_path, model, preprocessing_for(model, HALF))
    (batch,) = dataset.batches(4, signature=model.signature)
    model.signature.check_inputs(batch)
    assert float(batch["x"].mean()) == 2.0


def test_arrays_by_input_name_need_no_preprocessing(tmp_path: Path) -> None:
    model = graph(tmp_path, ("a", FLOAT, ["n", 3]), ("b", TensorProto.INT64, ["n", 2]))
    np.savez(tmp_path / "d.npz", a=np.ones((5, 3), np.float32), b=np.ones((5, 2), np.int64))
    dataset = open_inputs(tmp_path / "d.npz", model, None)
    assert len(dataset) == 5
    assert dataset.spec is None
    assert not dataset.synthetic


def test_made_up_input_fits_every_signature_and_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    model = graph(tmp_path, ("a", FLOAT, [2, "batch", 4]), ("b", TensorProto.BOOL, ["batch", "t"]))
    sizes = Sizes(shapes={"b": (1, 5)})
    first, again = (synthetic_inputs(model, None, count=6, seed=3, sizes=sizes) for _ in range(2))
    assert first.synthetic
    assert first.digest == again.digest
    batches = list(first.batches(4, signature=model.signature))
    assert [batch["a"].shape for batch in batches] == [(2, 4, 4), (2, 2, 4)]
    for batch in batches:
        model.signature.check_inputs(batch)


def test_sizes_nobody_gave_are_asked_for_before_the_work_begins(tmp_path: Path) -> None:
    model = graph(tmp_path, ("a", FLOAT, ["batch", "tokens", 4]))
    with pytest.raises(LinglosError, match="Axis 1 of 'a'"):
        synthetic_inputs(model, None, count=2, seed=0)


def test_numbers_are_read_as_they_are_written() -> None:
    assert parse_numbers(None, option="--mean") is None
    assert parse_numbers("0", option="--mean") == (0.0,)
    with pytest.raises(UsageError, match="--std takes numbers"):
        parse_numbers("a,b", option="--std")
