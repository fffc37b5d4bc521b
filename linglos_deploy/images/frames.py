"""Frames as cameras and decoders give them, and the one RGB image that each of them is.

This is the definition that the C++ library repeats to the bit (``linglos::ImageView``); it is written for clarity, not
for speed. The steps, each with one defined result:

1. every pixel of the region becomes RGB. Grey stands in all three channels; alpha is dropped; of YUV formats two pixels
   (NV12: a square of four) share a pair of U and V, which is not interpolated;
2. the region is turned clockwise by ``rotation``.

YUV becomes RGB in integers, ``(a (Y - y0) + b (U - 128) + c (V - 128) + 2^15) >> 16``, cut off at 0 and 255. The
factors are those of ITU-R BT.601-7 (2.5.1) and BT.709-6 (3.2, 3.4), times 2^16, rounded: see :func:`yuv_factors`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.compat import StrEnum
from linglos_deploy.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class PixelFormat(StrEnum):
    """How the bytes of a frame stand for pixels."""

    RGB = "rgb"
    BGR = "bgr"
    GREY = "grey"
    RGBA = "rgba"
    BGRA = "bgra"
    NV12 = "nv12"
    YUYV = "yuyv"


class Matrix(StrEnum):
    """Which standard says how YUV and RGB belong together."""

    BT601 = "bt601"
    BT709 = "bt709"


LUMA_WEIGHTS = {Matrix.BT601: (0.299, 0.114), Matrix.BT709: (0.2126, 0.0722)}
"""Weights of red and of blue in luma."""
BYTES = {PixelFormat.RGB: 3, PixelFormat.BGR: 3, PixelFormat.GREY: 1, PixelFormat.RGBA: 4, PixelFormat.BGRA: 4}
"""Bytes of a pixel, of the formats whose pixels have bytes of their own."""
CHANNELS = {
    PixelFormat.RGB: (0, 1, 2),
    PixelFormat.BGR: (2, 1, 0),
    PixelFormat.GREY: (0, 0, 0),
    PixelFormat.RGBA: (0, 1, 2),
    PixelFormat.BGRA: (2, 1, 0),
}
"""Which of its bytes are red, green and blue."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame in memory.

    Attributes:
        data: uint8, one axis: rows of ``stride`` bytes; of NV12, Y. YUYV has Y0 U Y1 V for two pixels.
        width: In pixels; odd ones have half a pair of U and V, whose other pixel does not exist.
        height: In pixels.
        format: How bytes stand for pixels.
        stride: Bytes from one row to the next; ``None`` if nothing is between them.
        chroma: uint8, one axis: NV12's rows of U V, one for two rows of Y; ``None`` if they follow the rows of Y.
        chroma_stride: Bytes from one of these rows to the next; ``None`` if it is that of Y, rounded up to even.
        region: x, y, width and height of the part that is the image; ``None`` for all.
        rotation: Degrees clockwise by which the region is turned: 0, 90, 180 or 270.
        matrix: Of YUV formats.
        full_range: Whether Y, U and V go from 0 to 255, not Y from 16 to 235 and U and V from 16 to 240.
    """

    data: NDArray[np.uint8]
    width: int
    height: int
    format: PixelFormat = PixelFormat.RGB
    stride: int | None = None
    chroma: NDArray[np.uint8] | None = None
    chroma_stride: int | None = None
    region: tuple[int, int, int, int] | None = None
    rotation: int = 0
    matrix: Matrix = Matrix.BT601
    full_range: bool = False


def rgb_of(frame: Frame) -> NDArray[np.uint8]:
    """Return the image that a frame is, uint8 of shape (H, W, 3).

    >>> rgb_of(Frame(np.array([16, 235], np.uint8), 2, 1, PixelFormat.GREY, rotation=90))[:, 0, 0].tolist()
    [16, 235]

    Raises:
        UsageError: The region leaves the frame, or the rotation is no quarter turn.
    """
    x, y, width, height = frame.region or (0, 0, frame.width, frame.height)
    inside = x >= 0 and y >= 0 and width > 0 and height > 0 and x + width <= frame.width and y + height <= frame.height
    if not inside:
        raise UsageError(
            "The region must lie inside the frame.",
            found=f"{width} x {height} at {x}, {y}",
            expected=f"inside {frame.width} x {frame.height}",
        )
    if frame.rotation not in {0, 90, 180, 270}:
        raise UsageError("A frame is turned by 0, 90, 180 or 270 degrees.", found=str(frame.rotation))
    image = _whole(frame)[y : y + height, x : x + width]
    return np.ascontiguousarray(np.rot90(image, -(frame.rotation // 90)))


def yuv_factors(matrix: Matrix, full_range: bool) -> tuple[int, int, int, int, int]:
    """Return the factors of Y, of V in red, of U and V in green, and of U in blue, times 2^16.

    >>> yuv_factors(Matrix.BT601, full_range=False)
    (76309, 104597, -25675, -53279, 132201)
    """
    red, blue = LUMA_WEIGHTS[matrix]
    green = 1 - red - blue
    luma, chroma = (1.0, 1.0) if full_range else (255 / 219, 255 / 224)
    factors = (
        luma,
        2 * (1 - red) * chroma,
        -2 * (1 - blue) * blue / green * chroma,
        -2 * (1 - red) * red / green * chroma,
        2 * (1 - blue) * chroma,
    )
    y, red_v, green_u, green_v, blue_u = (round(factor * 65536) for factor in factors)
    return y, red_v, green_u, green_v, blue_u


def _whole(frame: Frame) -> NDArray[np.uint8]:
    width, height = frame.width, frame.height
    pairs = (width + 1) // 2
    if frame.format in BYTES:
        count = BYTES[frame.format]
        pixels = _rows(frame.data, height, width * count, frame.stride).reshape(height, width, count)
        return pixels[..., list(CHANNELS[frame.format])]
    if frame.format is PixelFormat.YUYV:
        quads = _rows(frame.data, height, pairs * 4, frame.stride).reshape(height, pairs, 4)
        luma = quads[..., [0, 2]].reshape(height, pairs * 2)[:, :width]
        u, v = (np.repeat(quads[..., channel], 2, axis=1)[:, :width] for channel in (1, 3))
        return _rgb(luma, u, v, frame)
    stride = frame.stride or width
    luma = _rows(frame.data, height, width, stride)
    behind = frame.chroma if frame.chroma is not None else frame.data[height * stride :]
    both = _rows(behind, (height + 1) // 2, pairs * 2, frame.chroma_stride or stride + stride % 2)
    spread = np.repeat(np.repeat(both.reshape(-1, pairs, 2), 2, axis=0)[:height], 2, axis=1)[:, :width]
    return _rgb(luma, spread[..., 0], spread[..., 1], frame)


def _rows(data: NDArray[np.uint8], height: int, row_bytes: int, stride: int | None) -> NDArray[np.uint8]:
    """Return the rows without what is between them; nothing need follow the last one."""
    step = stride or row_bytes
    return np.stack([data[row * step : row * step + row_bytes] for row in range(height)])


def _rgb(luma: NDArray[np.uint8], u: NDArray[np.uint8], v: NDArray[np.uint8], frame: Frame) -> NDArray[np.uint8]:
    y_factor, red_v, green_u, green_v, blue_u = yuv_factors(frame.matrix, frame.full_range)
    y = (luma.astype(np.int32) - (0 if frame.full_range else 16)) * y_factor + (1 << 15)
    blue_difference, red_difference = u.astype(np.int32) - 128, v.astype(np.int32) - 128
    sums = (
        y + red_v * red_difference,
        y + green_u * blue_difference + green_v * red_difference,
        y + blue_u * blue_difference,
    )
    return np.stack([np.clip(total >> 16, 0, 255).astype(np.uint8) for total in sums], axis=-1)
