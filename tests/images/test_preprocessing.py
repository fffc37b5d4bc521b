from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from linglos_deploy.errors import UsageError
from linglos_deploy.images.preprocessing import (
    Interpolation,
    PreprocessSpec,
    normalize,
    resized_shape,
    to_pixels,
    to_rgb,
)

sizes = st.integers(1, 500)


@given(sizes, sizes, sizes, sizes)
def test_a_resized_image_just_covers_the_target(height: int, width: int, cover_h: int, cover_w: int) -> None:
    new_h, new_w = resized_shape(height, width, (cover_h, cover_w))
    assert new_h >= cover_h
    assert new_w >= cover_w
    assert new_h == cover_h or new_w == cover_w
    assert abs(new_h * width - new_w * height) <= max(height, width) or (new_h, new_w) == (cover_h, cover_w)


@given(sizes, sizes, st.integers(1, 64), st.integers(1, 64), st.floats(0.5, 1.0), st.sampled_from(Interpolation))
def test_pixels_have_the_input_size_for_every_image(
    height: int, width: int, in_h: int, in_w: int, crop: float, filter_: Interpolation
) -> None:
    spec = PreprocessSpec(input_size=(in_h, in_w), crop_pct=crop, interpolation=filter_)
    image = Image.new("RGB", (min(width, 90), min(height, 90)), (10, 20, 30))
    pixels = to_pixels(image, spec)
    assert pixels.shape == (in_h, in_w, 3)
    assert (pixels == (10, 20, 30)).all()


def test_the_crop_keeps_the_centre() -> None:
    values = np.zeros((8, 12, 3), np.uint8)
    values[:, 2:10] = 200
    spec = PreprocessSpec(input_size=(8, 8), crop_pct=1.0)
    assert (to_pixels(Image.fromarray(values), spec) == 200).all()


def test_normalization_is_pixel_minus_mean_over_std_to_float32_precision() -> None:
    spec = PreprocessSpec(input_size=(2, 2))
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3) * 10
    exact = (pixels.astype(np.float64) / 255 - spec.mean) / spec.std
    result = normalize(pixels, spec)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    np.testing.assert_allclose(result, exact.transpose(0, 3, 1, 2), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_size": (0, 8)},
        {"input_size": (8, 8, 8)},
        {"crop_pct": 0.0},
        {"crop_pct": 1.5},
        {"mean": (0.5, 0.5)},
        {"mean": (0.5, 0.5, float("nan"))},
        {"std": (0.0, 1.0, 1.0)},
    ],
)
def test_an_impossible_specification_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        PreprocessSpec(**wrong)  # type: ignore[arg-type]


def test_every_kind_of_image_becomes_rgb() -> None:
    half = Image.new("RGBA", (2, 2), (200, 100, 50, 128))
    assert to_rgb(half).getpixel((0, 0)) == (100, 50, 25)
    assert to_rgb(Image.new("L", (2, 2), 7)).getpixel((0, 0)) == (7, 7, 7)
    assert to_rgb(Image.new("1", (2, 2), 1)).getpixel((0, 0)) == (255, 255, 255)
    wide = Image.fromarray(np.array([[0, 257, 65535]], np.uint16))
    assert [to_rgb(wide).getpixel((x, 0)) for x in range(3)] == [(0, 0, 0), (1, 1, 1), (255, 255, 255)]
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([9, 8, 7] * 256)
    assert to_rgb(palette).getpixel((0, 0)) == (9, 8, 7)
    assert to_rgb(Image.new("CMYK", (1, 1), (0, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)


def test_pixels_do_not_depend_on_the_order_of_passes_that_pillow_prefers() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (463, 212, 3), dtype=np.uint8)  # tall: Pillow 13 turns the order
    pixels = to_pixels(Image.fromarray(noise), PreprocessSpec(input_size=(64, 96)))
    expected = "00dcac1e7dde43f9c7a6235f0b2d51649540fd70842c0a176c4d955c25876f78"
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == expected
