"""Thumbnails show what a model was given, in any layout, and nothing of what is no image."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from linglos_deploy.images.thumbnails import SIDE, START, thumbnail

RNG = np.random.default_rng(0)


def decoded(uri: str) -> np.ndarray:
    assert uri.startswith(START)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix(START)))))


def test_pixels_are_shown_as_they_are() -> None:
    pixels = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
    assert np.array_equal(decoded(thumbnail(pixels)), pixels)
    assert np.array_equal(decoded(thumbnail(pixels.transpose(2, 0, 1))), pixels)
    assert np.array_equal(decoded(thumbnail(pixels[:, :, :1])), pixels[:, :, 0])


def test_a_normalized_image_looks_like_what_it_was_made_from() -> None:
    pixels = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
    pixels[0, 0], pixels[0, 1] = 0, 255
    normalized = ((pixels / 255 - 0.45) / 0.22).astype(np.float32).transpose(2, 0, 1)
    assert np.array_equal(decoded(thumbnail(normalized)), pixels)


def test_large_images_become_small_and_keep_their_shape() -> None:
    assert decoded(thumbnail(np.zeros((3, 4 * SIDE, 2 * SIDE), np.float32))).shape == (SIDE, SIDE // 2, 3)


def test_a_flat_image_and_one_of_nan_can_be_shown() -> None:
    assert decoded(thumbnail(np.full((3, 4, 4), 7.0))).max() == 0
    assert decoded(thumbnail(np.full((1, 4, 4), np.nan))).shape == (4, 4)


@pytest.mark.parametrize("shape", [(4,), (5, 4, 4), (3, 0, 4), (2, 3, 4, 4)])
def test_what_is_no_image_is_not_shown(shape: tuple[int, ...]) -> None:
    assert thumbnail(np.zeros(shape, np.float32)) == ""
    assert thumbnail(np.zeros((3, 4, 4), np.int64)) == ""
