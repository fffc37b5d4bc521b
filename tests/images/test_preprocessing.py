from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from linglos_deploy.errors import UsageError
from linglos_deploy.images.layout import Layout
from linglos_deploy.images.preprocessing import (
    Color,
    Interpolation,
    PreprocessSpec,
    crop_offset,
    decode_colors,
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
        {"color": "grey"},
        {"scale": 1 / 255},
    ],
)
def test_an_impossible_specification_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        PreprocessSpec(**wrong)  # type: ignore[arg-type]


def test_every_kind_of_image_becomes_rgb() -> None:
    half = Image.new("RGBA", (2, 2), (200, 100, 50, 128))
    assert to_rgb(half).getpixel((0, 0)) == (200, 100, 50)
    assert to_rgb(Image.new("LA", (2, 2), (9, 0))).getpixel((0, 0)) == (9, 9, 9)
    assert to_rgb(Image.new("L", (2, 2), 7)).getpixel((0, 0)) == (7, 7, 7)
    assert to_rgb(Image.new("1", (2, 2), 1)).getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([9, 8, 7] * 256)
    assert to_rgb(palette).getpixel((0, 0)) == (9, 8, 7)
    palette.info["transparency"] = b"\x00" * 256
    assert to_rgb(palette).getpixel((0, 0)) == (9, 8, 7)
    assert to_rgb(Image.new("CMYK", (1, 1), (0, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "CMYK", "YCbCr", "L", "P", "1"])
def test_colours_are_those_of_pillow_s_own_conversion(mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    image = Image.fromarray(noise).convert(mode)
    np.testing.assert_array_equal(np.asarray(to_rgb(image)), np.asarray(image.convert("RGB")))
    np.testing.assert_array_equal(np.asarray(decode_colors(image, Color.GREY)), np.asarray(image.convert("L")))


def test_sixteen_bits_of_grey_keep_white_white() -> None:
    wide = Image.fromarray(np.array([[0, 257, 65535]], np.uint16))
    assert np.asarray(to_rgb(wide))[0, :, 0].tolist() == [0, 1, 255]
    assert np.asarray(decode_colors(wide, Color.GREY))[0].tolist() == [0, 1, 255]
    assert np.asarray(to_rgb(Image.fromarray(np.array([[0, 514, 70000, -3]], np.int32))))[0, :, 0].tolist() == [
        0,
        2,
        255,
        0,
    ]


def test_a_wide_image_that_holds_eight_bits_keeps_its_values(tmp_path: Path) -> None:
    narrow = Image.fromarray(np.array([[0, 7, 200]], np.int32))
    assert np.asarray(to_rgb(narrow))[0, :, 0].tolist() == [0, 7, 200]
    Image.fromarray(np.array([[0, 200]], np.uint16)).save(tmp_path / "dark.png")
    with Image.open(tmp_path / "dark.png") as dark:  # stored as 16 bits, so 200 is nearly black
        assert np.asarray(to_rgb(dark))[0, :, 0].tolist() == [0, 0]


@given(st.integers(1, 600), st.integers(0, 600))
def test_the_crop_begins_where_torchvision_s_begins(crop: int, more: int) -> None:
    assert crop_offset(crop + more, crop) == round(more / 2.0)


@pytest.mark.parametrize(("side", "offset"), [(224, 6), (288, 8)])
def test_the_usual_sizes_are_cropped_at_the_offset_that_timm_has(side: int, offset: int) -> None:
    spec = PreprocessSpec(input_size=(side, side), crop_pct=0.95)
    full = spec.resize_size[0]
    columns = np.broadcast_to((np.arange(full) % 256).astype(np.uint8)[:, None], (full, full, 3)[:2]).copy()
    pixels = to_pixels(Image.fromarray(np.repeat(columns.T[..., None], 3, axis=2)), spec)
    assert pixels[0, 0, 0] == offset


@pytest.mark.parametrize("color", Color)
@pytest.mark.parametrize("layout", Layout)
def test_every_colour_and_layout_normalizes_each_channel_by_its_own_numbers(color: Color, layout: Layout) -> None:
    count = color.channels
    spec = PreprocessSpec(
        input_size=(4, 6),
        crop_pct=1.0,
        mean=tuple(0.1 * (index + 1) for index in range(count)),
        std=tuple(0.2 + 0.1 * index for index in range(count)),
        color=color,
        layout=layout,
        scale=200.0,
    )
    noise = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    pixels = to_pixels(decode_colors(Image.fromarray(noise), color), spec)
    expected = {
        Color.RGB: noise,
        Color.BGR: noise[..., ::-1],
        Color.GREY: np.asarray(Image.fromarray(noise).convert("L"))[..., None],
        Color.RGBA: np.concatenate([noise, np.full((4, 6, 1), 255, np.uint8)], axis=2),
    }[color]
    np.testing.assert_array_equal(pixels, expected)
    values = normalize(pixels[None], spec)
    assert values.shape == (1, *spec.input_shape())
    assert values.flags.c_contiguous
    exact = (expected.astype(np.float64) / 200 - spec.mean) / spec.std
    found = values[0] if layout is Layout.NHWC else values[0].transpose(1, 2, 0)
    np.testing.assert_allclose(found, exact, rtol=2e-6, atol=2e-6)


def test_pixels_do_not_depend_on_the_order_of_passes_that_pillow_prefers() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (463, 212, 3), dtype=np.uint8)  # tall: Pillow 13 turns the order
    pixels = to_pixels(Image.fromarray(noise), PreprocessSpec(input_size=(64, 96)))
    expected = "00dcac1e7dde43f9c7a6235f0b2d51649540fd70842c0a176c4d955c25876f78"
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == expected
