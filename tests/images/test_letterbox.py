"""A letterbox holds the whole picture, and what is found in it can be said of the picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from linglos_deploy.errors import UsageError
from linglos_deploy.images.preprocessing import Color, Fit, Frame, PreprocessSpec, fitted_shape, frame_of, to_pixels

sizes = st.integers(1, 500)
LETTERBOX = PreprocessSpec(input_size=(32, 48), fit=Fit.LETTERBOX)


@given(sizes, sizes, sizes, sizes)
def test_a_fitted_picture_lies_inside_and_touches_two_edges(height: int, width: int, most_h: int, most_w: int) -> None:
    new_h, new_w = fitted_shape(height, width, (most_h, most_w))
    assert 1 <= new_h <= most_h
    assert 1 <= new_w <= most_w
    assert new_h == most_h or new_w == most_w
    assert abs(new_h * width - new_w * height) <= max(height, width) / 2 or 1 in (new_h, new_w)


def test_the_bars_are_filled_and_the_picture_is_in_the_middle() -> None:
    pixels = to_pixels(Image.new("RGB", (10, 10), (200, 100, 0)), LETTERBOX)
    assert pixels.shape == (32, 48, 3)
    assert (pixels[:, 8:40] == (200, 100, 0)).all()
    assert (pixels[:, :8] == 114).all()
    assert (pixels[:, 40:] == 114).all()


def test_an_odd_bar_is_thinner_above_and_to_the_left() -> None:
    frame = frame_of(31, 48, LETTERBOX)
    assert (frame.resized, frame.offset) == ((31, 48), (0, 0))
    assert frame_of(29, 48, LETTERBOX).offset == (1, 0)


def test_the_channels_of_a_letterbox_follow_the_models_colours() -> None:
    spec = PreprocessSpec(input_size=(8, 8), fit=Fit.LETTERBOX, color=Color.BGR, fill=7)
    pixels = to_pixels(Image.new("RGB", (8, 4), (1, 2, 3)), spec)
    assert (pixels[2:6] == (3, 2, 1)).all()
    assert (pixels[:2] == 7).all()


@pytest.mark.parametrize("fill", [-1, 256])
def test_a_fill_that_is_no_byte_is_refused(fill: int) -> None:
    with pytest.raises(UsageError, match="8 bits"):
        PreprocessSpec(fill=fill)


@given(st.integers(2, 300), st.integers(2, 300), st.sampled_from(Fit))
def test_a_box_around_all_that_the_input_shows_of_a_picture_comes_back(height: int, width: int, fit: Fit) -> None:
    frame = frame_of(height, width, PreprocessSpec(input_size=(32, 48), fit=fit))
    (top, left), (tall, wide) = frame.offset, frame.resized
    whole = np.array([[left, top, left + wide, top + tall]], np.float32)
    assert frame.boxes_in_picture(whole).tolist() == [[0, 0, width, height]]
    beyond = np.array([[-1e6, -1e6, 1e6, 1e6]], np.float32)
    assert frame.boxes_in_picture(beyond).tolist() == [[0, 0, width, height]]


def test_a_box_is_scaled_by_each_side() -> None:
    frame = frame_of(64, 64, LETTERBOX)  # half the size, 8 columns to the right
    assert frame.boxes_in_picture(np.array([[10.0, 1.0, 12.0, 3.0]])).tolist() == [[4.0, 2.0, 8.0, 6.0]]


def test_a_map_has_the_pictures_size_and_leaves_the_bars_out() -> None:
    values = np.full((32, 48), 9, np.uint8)
    values[:, 8:24], values[:, 24:40] = 1, 2
    mapped = frame_of(100, 100, LETTERBOX).map_in_picture(values, unseen=255)
    assert mapped.shape == (100, 100)
    assert (mapped[:, :50] == 1).all()
    assert (mapped[:, 50:] == 2).all()


def test_a_pixel_takes_the_value_where_its_centre_lies() -> None:
    frame = Frame(picture=(1, 3), resized=(1, 2), offset=(0, 0), input_size=(1, 2))
    assert frame.map_in_picture(np.array([[4, 9]], np.uint8), unseen=255).tolist() == [[4, 9, 9]]


def test_what_a_crop_cut_off_is_unseen_in_the_map() -> None:
    frame = frame_of(10, 40, PreprocessSpec(input_size=(10, 10), crop_pct=1.0))
    mapped = frame.map_in_picture(np.ones((10, 10), np.uint8), unseen=255)
    assert (mapped[:, 16:26] == 1).all() or (mapped[:, 15:25] == 1).all()
    assert (mapped == 1).sum() == 100
    assert set(np.unique(mapped)) == {1, 255}
