from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linglos_deploy.errors import UsageError
from linglos_deploy.images.frames import CHANNELS, Frame, Matrix, PixelFormat, rgb_of, yuv_factors

GREY_LEVELS = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize("format", [PixelFormat.RGB, PixelFormat.BGR, PixelFormat.RGBA, PixelFormat.BGRA])
def test_packed_formats_are_their_channels_in_order(format: PixelFormat) -> None:  # noqa: A002
    count = 3 if len(format) == 3 else 4
    data = np.arange(2 * 3 * count, dtype=np.uint8)
    expected = data.reshape(2, 3, count)[..., list(CHANNELS[format])]
    assert np.array_equal(rgb_of(Frame(data, 3, 2, format)), expected)


@pytest.mark.parametrize("matrix", Matrix)
@pytest.mark.parametrize("full", [False, True])
def test_yuv_without_colour_is_grey_from_black_to_white(matrix: Matrix, full: bool) -> None:
    data = np.concatenate([GREY_LEVELS, np.full(256, 128, np.uint8)])
    image = rgb_of(Frame(data, 256, 1, PixelFormat.NV12, matrix=matrix, full_range=full))[0]
    assert (image == image[:, :1]).all()
    black, white = (0, 255) if full else (16, 235)
    assert image[black, 0] == 0
    assert image[white, 0] == 255
    assert (np.diff(image[:, 0].astype(int)) >= 0).all()


@pytest.mark.parametrize("matrix", Matrix)
@pytest.mark.parametrize("full", [False, True])
def test_colours_survive_the_way_to_yuv_and_back(matrix: Matrix, full: bool) -> None:
    """Against the standards' own equations, from RGB to YUV in float64."""
    red, blue = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}[matrix]
    colours = np.random.default_rng(3).integers(0, 256, (200, 3)).astype(np.float64)
    luma = colours @ [red, 1 - red - blue, blue]
    u, v = (colours[:, 2] - luma) / (2 * (1 - blue)), (colours[:, 0] - luma) / (2 * (1 - red))
    if not full:
        luma, u, v = luma * 219 / 255 + 16, u * 224 / 255, v * 224 / 255
    quads = np.stack([luma, u + 128, luma, v + 128], axis=1)
    data = np.clip(np.rint(quads), 0, 255).astype(np.uint8).ravel()
    frame = Frame(data, 400, 1, PixelFormat.YUYV, matrix=matrix, full_range=full)
    assert np.abs(rgb_of(frame)[0, ::2].astype(float) - colours).max() <= 3


def test_two_pixels_of_yuyv_and_four_of_nv12_share_their_colour() -> None:
    row = np.array([50, 90, 60, 200, 70, 30, 80, 140], np.uint8)
    assert np.array_equal(
        rgb_of(Frame(row, 4, 1, PixelFormat.YUYV)),
        rgb_of(Frame(np.array([50, 60, 70, 80, 90, 200, 30, 140], np.uint8), 4, 1, PixelFormat.NV12)),
    )
    square = rgb_of(
        Frame(np.array([9, 9, 9, 9, 9, 9, 9, 9, 9, 99, 200, 30, 40, 1, 2, 3, 4], np.uint8), 3, 3, PixelFormat.NV12)
    )
    assert (square[:2, :2] == square[0, 0]).all()
    assert not np.array_equal(square[0, 0], square[0, 2])
    assert not np.array_equal(square[0, 0], square[2, 0])


@given(st.data())
def test_padding_is_not_looked_at(data: st.DataObject) -> None:
    width, height = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    format_ = data.draw(st.sampled_from(PixelFormat))
    pairs = (width + 1) // 2
    row = {"nv12": width, "yuyv": pairs * 4, "grey": width}.get(format_, width * len(format_))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    rows = rng.integers(0, 256, (height, row), dtype=np.uint8)
    chroma = rng.integers(0, 256, ((height + 1) // 2, pairs * 2), dtype=np.uint8)

    def padded(array: np.ndarray, stride: int) -> np.ndarray:
        wide = rng.integers(0, 256, (len(array), stride), dtype=np.uint8)
        wide[:, : array.shape[1]] = array
        return wide.ravel()

    tight = Frame(rows.ravel(), width, height, format_, chroma=chroma.ravel(), chroma_stride=pairs * 2)
    loose = Frame(padded(rows, row + 5), width, height, format_, row + 5, padded(chroma, pairs * 2 + 4), pairs * 2 + 4)
    assert np.array_equal(rgb_of(tight), rgb_of(loose))


def test_a_frame_is_cut_first_and_then_turned_clockwise() -> None:
    data = np.arange(20, dtype=np.uint8)
    whole = data.reshape(4, 5)

    def turned(rotation: int) -> np.ndarray:
        return rgb_of(Frame(data, 5, 4, PixelFormat.GREY, region=(1, 2, 3, 2), rotation=rotation))[..., 0]

    assert np.array_equal(turned(0), whole[2:4, 1:4])
    assert turned(90).tolist() == [[16, 11], [17, 12], [18, 13]]
    assert turned(180).tolist() == [[18, 17, 16], [13, 12, 11]]
    assert turned(270).tolist() == [[13, 18], [12, 17], [11, 16]]


@pytest.mark.parametrize("region", [(0, 0, 6, 1), (-1, 0, 2, 2), (4, 3, 2, 1), (0, 0, 0, 1)])
def test_a_region_that_leaves_the_frame_is_refused(region: tuple[int, int, int, int]) -> None:
    with pytest.raises(UsageError, match="inside the frame"):
        rgb_of(Frame(np.zeros(20, np.uint8), 5, 4, PixelFormat.GREY, region=region))


def test_a_frame_is_turned_by_quarters_only() -> None:
    with pytest.raises(UsageError, match="0, 90, 180 or 270"):
        rgb_of(Frame(np.zeros(20, np.uint8), 5, 4, PixelFormat.GREY, rotation=45))


def test_factors_are_the_standards() -> None:
    y, red_v, green_u, green_v, blue_u = yuv_factors(Matrix.BT709, full_range=True)
    assert [round(value / 65536, 4) for value in (y, red_v, green_u, green_v, blue_u)] == [
        1.0,
        1.5748,
        -0.1873,
        -0.4681,
        1.8556,
    ]
