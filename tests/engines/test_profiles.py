"""Shapes of any input: by name and position, and no axis without a range."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linglos_deploy.engines.options import EngineOptions
from linglos_deploy.engines.profiles import (
    InputShape,
    Range,
    format_input_shape,
    make_profile,
    make_profiles,
    parse_input_shape,
)
from linglos_deploy.engines.spec import BuildSpec, ShapeRange
from linglos_deploy.errors import UsageError
from linglos_deploy.signature import Dim, ModelSignature, TensorSpec, unnamed


def signature(**inputs: tuple[Dim, ...]) -> ModelSignature:
    return ModelSignature(tuple(TensorSpec(name, "float32", shape) for name, shape in inputs.items()), ())


def shapes(*texts: str) -> tuple[InputShape, ...]:
    return tuple(parse_input_shape(text) for text in texts)


TOKENS = signature(tokens=("B", "length", 64))
ANY_IMAGE = signature(image=(unnamed("image", 0), 3, unnamed("image", 2), unnamed("image", 3)))
VOICE = signature(input=("batch", "samples"), state=(2, "batch", 128), sr=())


@st.composite
def ranges(draw: st.DrawFn) -> ShapeRange:
    rank = draw(st.integers(1, 5))
    axes = [sorted(draw(st.lists(st.integers(0, 4096), min_size=3, max_size=3))) for _ in range(rank)]
    return ShapeRange(*(tuple(axis[position] for axis in axes) for position in range(3)))


@given(ranges(), st.sampled_from(["image", "input:0", "a=b", "serving_default/x"]))
def test_shapes_are_read_back_as_they_were_written(shape: ShapeRange, name: str) -> None:
    assert parse_input_shape(format_input_shape(name, shape)) == InputShape(name, shape)


@pytest.mark.parametrize(
    "text", ["", "image", "image=", "=1x3", "image=1x3:2x3", "image=1x3:2:4x3", "image=1xC", "image=-1x3", "image=1,3"]
)
def test_other_text_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_input_shape(text)
    assert "--shape tokens=1x64:1x128:8x512" in (caught.value.next_step or "")


def test_a_shape_that_falls_is_refused() -> None:
    with pytest.raises(UsageError, match="min <= opt <= max"):
        parse_input_shape("image=2x3:1x3:4x3")


def test_any_axis_gets_its_range_by_position() -> None:
    (profile,) = make_profiles(TOKENS, shapes=shapes("tokens=1x8x64:2x16x64:4x32x64"))
    assert profile == {"tokens": ShapeRange((1, 8, 64), (2, 16, 64), (4, 32, 64))}
    (profile,) = make_profiles(ANY_IMAGE, shapes=shapes("image=1x3x320x320"))
    assert profile == {"image": ShapeRange(*((1, 3, 320, 320),) * 3)}


def test_an_axis_of_one_name_has_one_range_in_all_inputs() -> None:
    (profile,) = make_profiles(VOICE, shapes=shapes("input=1x512:2x512:8x1024"))
    assert profile["state"] == ShapeRange((2, 1, 128), (2, 2, 128), (2, 8, 128))
    assert profile["sr"] == ShapeRange((), (), ())
    with pytest.raises(UsageError, match="'batch' has one size"):
        make_profiles(VOICE, shapes=shapes("input=1x512", "state=2x2x128"))


@pytest.mark.parametrize(
    ("inputs", "given_options", "axis", "name"),
    [
        (ANY_IMAGE, EngineOptions(), "Axis 0 of", "image"),
        (ANY_IMAGE, EngineOptions(batch_profiles=((1, 2, 4),)), "Axis 2 of", "image"),
        (TOKENS, EngineOptions(), r"Axis 0 \('B'\) of", "tokens"),
        (TOKENS, EngineOptions(batch_profiles=((1, 2, 4),)), r"Axis 1 \('length'\) of", "tokens"),
        (VOICE, EngineOptions(batch_profiles=((1, 2, 4),)), r"Axis 1 \('samples'\) of", "input"),
        (signature(image=("batch", 3, "height", "width")), EngineOptions(), r"Axis 2 \('height'\) of", "image"),
        (
            signature(a=(1, "n_points"), b=(1, "other")),
            EngineOptions(shapes=shapes("a=1x5")),
            r"Axis 1 \('other'\) of",
            "b",
        ),
    ],
)
def test_an_axis_that_nobody_gave_a_range_is_an_error_that_names_it_and_never_one(
    inputs: ModelSignature, given_options: EngineOptions, axis: str, name: str
) -> None:
    with pytest.raises(UsageError, match=f"{axis} input '{name}'") as caught:
        given_options.spec(inputs, backend="tensorrt-rtx", nominal_size=None)
    assert f"--shape '{name}=" in (caught.value.next_step or "")


def test_a_profile_by_axis_name_leaves_no_axis_out_either() -> None:
    with pytest.raises(UsageError, match=r"Axis 1 \('length'\) of input 'tokens'"):
        make_profile(TOKENS, {"B": (1, 1, 1)})


def test_batches_and_sizes_are_found_by_place_where_the_graph_has_no_names() -> None:
    options = EngineOptions(batch_profiles=((1, 2, 4),), size_profile=((32, 64), (64, 96), (128, 160)))
    spec = options.spec(ANY_IMAGE, backend="tensorrt-rtx", nominal_size=None)
    assert spec.profiles == ({"image": ShapeRange((1, 3, 32, 64), (2, 3, 64, 96), (4, 3, 128, 160))},)
    pixels = signature(image=("N", "H", "W", 3))
    spec = options.spec(pixels, backend="tensorrt-rtx", nominal_size=None)
    assert spec.profiles == ({"image": ShapeRange((1, 32, 64, 3), (2, 64, 96, 3), (4, 128, 160, 3))},)


def test_a_batch_that_the_graph_names_is_served_from_one_to_eight_unasked() -> None:
    spec = EngineOptions().spec(signature(x=("batch_size", 7)), backend="tensorrt-rtx", nominal_size=None)
    assert spec.profiles == ({"x": ShapeRange((1, 7), (1, 7), (8, 7))},)


def test_several_shapes_of_an_input_are_several_profiles_and_one_is_for_all() -> None:
    inputs = signature(image=(unnamed("image", 0), 3), mask=(unnamed("mask", 0), 5))
    profiles = make_profiles(inputs, shapes=shapes("image=1x3", "image=1x3:4x3:8x3", "mask=2x5"))
    assert [profile["image"].max for profile in profiles] == [(1, 3), (8, 3)]
    assert [profile["mask"].max for profile in profiles] == [(2, 5), (2, 5)]
    with pytest.raises(UsageError, match="numbers of profiles differ"):
        make_profiles(inputs, shapes=shapes(*("image=1x3",) * 2, *("mask=2x5",) * 3))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (EngineOptions(shapes=shapes("picture=1x3")), "no input 'picture'"),
        (EngineOptions(shapes=shapes("tokens=1x8x63")), "does not fit the input 'tokens'"),
        (EngineOptions(shapes=shapes("tokens=1x64")), "does not fit the input 'tokens'"),
        (EngineOptions(shapes=shapes("tokens=1x8x64"), batch_profiles=((1, 1, 8),)), "--profile is for a batch"),
        (EngineOptions(shapes=shapes("tokens=1x8x64"), size_profile=((8, 8),) * 3), "dynamic resolution"),
    ],
)
def test_what_was_asked_for_and_fits_nothing_is_refused(options: EngineOptions, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        options.spec(TOKENS, backend="tensorrt-rtx", nominal_size=None)


def test_batches_asked_of_a_graph_of_a_fixed_batch_are_refused() -> None:
    fixed = signature(x=(4, 7))
    assert EngineOptions().spec(fixed, backend="tensorrt-rtx", nominal_size=None) == BuildSpec(profiles=())
    with pytest.raises(UsageError, match="batch that is open"):
        EngineOptions(batch_profiles=((1, 1, 8),)).spec(fixed, backend="tensorrt-rtx", nominal_size=None)


def test_shapes_of_a_model_with_strides_are_checked_like_its_size_profile() -> None:
    options = EngineOptions(shapes=shapes("image=1x3x320x330"))
    with pytest.raises(UsageError, match="does not fit the model"):
        options.spec(ANY_IMAGE, backend="tensorrt-rtx", nominal_size=(224, 224), divisor=32)


@given(st.lists(st.integers(1, 64), min_size=3, max_size=3), st.integers(0, 3))
def test_a_named_axis_takes_the_same_range_wherever_it_stands(sizes: list[int], place: int) -> None:
    low, best, high = sorted(sizes)
    span: Range = (low, best, high)
    shape: list[Dim] = [2, 3, 5, 7]
    shape[place] = "k"
    (profile,) = (make_profile(signature(a=tuple(shape), b=("k",)), {"k": span}),)
    for position, sizes_of in enumerate((profile["a"].min, profile["a"].opt, profile["a"].max)):
        assert sizes_of[place] == span[position]
    assert profile["b"] == ShapeRange((low,), (best,), (high,))
