"""Where the images lie: taking tensors apart, what inputs say, and what runs of a graph tell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linglos_deploy.errors import DataError
from linglos_deploy.graph.axes import ImagesAt, InputAxes, NotApart, input_axes
from linglos_deploy.graph.find_places import (
    different_images,
    distinct,
    places_in_any_batch,
    places_in_fixed_batch,
)
from linglos_deploy.signature import ModelSignature, TensorSpec, unnamed

FIRST = InputAxes({"x": 0}, None)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[ImagesAt, tuple[int, ...]]:
    """Return a place, and the shape of one image's tensor."""
    shape = list(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    axis = draw(st.integers(0, len(shape) - 1))
    outer, inner = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    shape[axis] = outer * inner
    return ImagesAt(axis, outer, inner), tuple(shape)


def images_of(shape: tuple[int, ...], count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


@given(layouts(), st.integers(1, 5))
def test_what_was_joined_is_split_again(layout: tuple[ImagesAt, tuple[int, ...]], count: int) -> None:
    place, shape = layout
    images = images_of(shape, count)
    whole = place.join(images)
    assert whole.ndim == len(shape)
    assert whole.shape[place.axis] == count * shape[place.axis]
    np.testing.assert_array_equal(place.split(whole), images)
    for index in range(count):  # one image's share is what the image alone would give
        np.testing.assert_array_equal(place.split(place.join(images[index : index + 1]))[0], images[index])


def test_a_plain_batch_axis_is_split_without_a_copy() -> None:
    values = np.zeros((5, 3, 4, 4), np.float32)
    assert np.shares_memory(ImagesAt(0).split(values), values)
    assert np.shares_memory(ImagesAt(0, inner=1).split(values)[:2], values)
    tokens = np.zeros((5 * 7, 3), np.float32)
    assert np.shares_memory(ImagesAt(0, inner=7).split(tokens), tokens)


def test_half_images_are_not_split() -> None:
    with pytest.raises(ValueError, match="no whole images of 4"):
        ImagesAt(0, inner=4).split(np.zeros((10, 2)))


@given(layouts(), st.integers(2, 7), st.integers(2, 4))
def test_single_runs_tell_where_the_images_of_a_batch_lie(
    layout: tuple[ImagesAt, tuple[int, ...]], count: int, alone: int
) -> None:
    place, shape = layout
    images = images_of(shape, alone)
    whole = place.join(images[np.arange(count) % alone])
    singles = [{"t": image} for image in images]
    assert places_in_any_batch(singles, {"t": whole}, count=count) == {"t": place}
    rounded = whole * np.float32(1 + 1e-7)
    assert places_in_any_batch(singles, {"t": rounded}, count=count) == {"t": place}


@given(layouts(), st.integers(2, 5))
def test_images_that_change_places_tell_where_they_lie(layout: tuple[ImagesAt, tuple[int, ...]], count: int) -> None:
    place, shape = layout

    def run(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"t": place.join(batch["x"])}

    inputs = InputAxes({"x": 0}, count)
    found = places_in_fixed_batch(run, {"x": images_of((*shape, 3), count)[..., 0]}, inputs)["t"]
    images = images_of(shape, count, seed=1)
    assert isinstance(found, ImagesAt)
    np.testing.assert_array_equal(found.split(place.join(images)), images)


CASES = {
    "a constant": (lambda x: np.arange(6.0).reshape(2, 3), NotApart.SHARED),
    "a mean over the batch": (lambda x: x.mean(axis=0), NotApart.MIXED),
    "normalized over the batch": (lambda x: x - x.mean(axis=0), NotApart.MIXED),
    "all pairs of images": (lambda x: x @ x.T, NotApart.MIXED),
    "sorted over the batch": (lambda x: np.sort(x, axis=0), NotApart.MIXED),
    "masked with infinity": (lambda x: np.where(x > 0, -np.inf, x), ImagesAt(0)),
    "not a number here and there": (lambda x: np.where(x > 0, np.nan, x), ImagesAt(0)),
}


@pytest.mark.parametrize("case", CASES)
def test_tensors_without_a_place_for_each_image_are_known(case: str) -> None:
    function, expected = CASES[case]
    images = images_of((6,), 3)
    singles = [{"t": function(images[index : index + 1])} for index in range(3)]
    assert places_in_any_batch(singles, {"t": function(images)}, count=3)["t"] == expected
    fixed = places_in_fixed_batch(lambda batch: {"t": function(batch["x"])}, {"x": images}, InputAxes({"x": 0}, 3))
    assert fixed["t"] == expected


def test_sizes_that_follow_from_the_values_belong_to_no_place() -> None:
    images = images_of((6,), 3)
    singles = [{"t": image[image > 0]} for image in images]
    assert places_in_any_batch(singles, {"t": images[images > 0]}, count=3)["t"] is NotApart.MIXED


def test_images_that_decide_nothing_leave_a_merged_axis_open() -> None:
    dead = [{"t": np.zeros((4, 2), np.float32)}] * 2
    assert places_in_any_batch(dead, {"t": np.zeros((8, 2), np.float32)}, count=2)["t"] is NotApart.MIXED
    plain = [{"t": np.zeros((1, 2), np.float32)}] * 2
    assert places_in_any_batch(plain, {"t": np.zeros((2, 2), np.float32)}, count=2)["t"] == ImagesAt(0)


def test_outputs_that_are_overwritten_by_the_next_run_do_not_confuse() -> None:
    memory = np.zeros((3, 2), np.float32)

    def run(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        memory[:] = batch["x"]
        return {"t": memory}

    assert places_in_fixed_batch(run, {"x": images_of((2,), 3)}, InputAxes({"x": 0}, 3)) == {"t": ImagesAt(0)}


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int64"])
@pytest.mark.parametrize("value", [0, 7])
def test_different_images_are_made_of_uniform_ones(dtype: str, value: int) -> None:
    made = different_images({"x": np.full((2, 8), value, dtype)}, FIRST, 4)
    assert made["x"].dtype == dtype
    assert distinct(made, FIRST, 9) == [0, 1, 2, 3]
    shuffled = different_images({"x": np.arange(16, dtype=dtype).reshape(1, 16)}, FIRST, 5)["x"]
    assert shuffled.shape == (5, 16)
    size = 0.75 if dtype == "float32" else 1  # smaller, so that the mean of an image differs, too
    assert all(sorted(row) == [size * place for place in range(16)] for row in shuffled.tolist()[1:])


def test_images_that_cannot_differ_are_an_error() -> None:
    with pytest.raises(DataError, match="all alike"):
        different_images({"x": np.zeros((1, 0), np.float32)}, FIRST, 2)


def _signature(**shapes: tuple[int | str, ...] | None) -> ModelSignature:
    return ModelSignature(tuple(TensorSpec(name, "float32", shape) for name, shape in shapes.items()), ())


@pytest.mark.parametrize(
    ("shapes", "axes", "batch"),
    [
        ({"image": ("batch", 3, 8, 8)}, {"image": 0}, None),
        ({"image": (unnamed("image", 0), 3, unnamed("image", 2), 8)}, {"image": 0}, None),
        ({"x": ("T", "N", 5)}, {"x": 1}, None),
        ({"x": ("seq", "batch_size", 5), "h": (2, "batch_size", 7)}, {"x": 1, "h": 1}, None),
        ({"input": ("s", 512), "state": (2, "s", 128), "sr": ()}, {"input": 0, "state": 1, "sr": None}, None),
        ({"a": (unnamed("a", 0), 4), "b": (unnamed("b", 0), 4)}, {"a": 0, "b": 0}, None),
        ({"image": (4, 3, 8, 8), "state": (2, 4, 128)}, {"image": 0, "state": 1}, 4),
        ({"sr": (), "image": (1, 3, 8, 8)}, {"sr": None, "image": 0}, 1),
        ({"image": ("batch", 3, 8, 8), "mask": (1, 8)}, {"image": 0, "mask": None}, None),
    ],
)
def test_inputs_say_where_their_images_lie(
    shapes: dict[str, tuple[int | str, ...]], axes: dict[str, int | None], batch: int | None
) -> None:
    assert input_axes(_signature(**shapes)) == InputAxes(axes, batch)


def test_inputs_without_axes_are_an_error() -> None:
    with pytest.raises(DataError, match="no input that could hold images"):
        input_axes(_signature(x=()))
    with pytest.raises(DataError, match="how many axes 'x' has"):
        input_axes(_signature(x=None))


def test_images_are_taken_along_the_axis_of_each_input() -> None:
    inputs = InputAxes({"x": 1, "y": 0, "rate": None}, None)
    batch = {"x": np.arange(12).reshape(2, 3, 2), "y": np.arange(3), "rate": np.array(16000)}
    assert inputs.count(batch) == 3
    part, picked = inputs.part(batch, 1, 3), inputs.pick(batch, [2, 2])
    np.testing.assert_array_equal(part["x"], batch["x"][:, 1:3])
    assert np.shares_memory(part["x"], batch["x"])
    np.testing.assert_array_equal(picked["x"], batch["x"][:, [2, 2]])
    np.testing.assert_array_equal(picked["y"], [2, 2])
    assert part["rate"] == picked["rate"] == 16000
    joined = inputs.join([part, picked])
    assert joined["x"].shape == (2, 4, 2)
    assert joined["y"].tolist() == [1, 2, 2, 2]
    assert [array.tolist() for array in inputs.image(batch, 0)] == [[[0, 1], [6, 7]], 0]
    with pytest.raises(DataError, match="different numbers of images"):
        inputs.count({**batch, "y": np.arange(4)})
