"""How an image becomes model input: one description for Python, for the ONNX graph and for C++.

The steps, each with one defined result for every input:

1. decode to 8 bits a channel, in the model's colours (:func:`decode_colors`);
2. resize with Pillow's antialiased filter, keeping the aspect ratio: first the width, then the height, each rounded to
   8 bits; so that the image covers ``resize_size`` (:func:`resized_shape`), or, for a letterbox, so that all of it lies
   in ``input_size`` (:func:`fitted_shape`);
3. crop the centre to ``input_size``; of two middles the one whose offset is even, as torchvision and timm do
   (:func:`crop_offset`); or, for a letterbox, put it in the middle of ``input_size`` and fill the rest, of two middles
   the upper and the left one;
4. normalize, in float32: ``(pixel - scale * mean) / (scale * std)``, where ``scale * mean`` and ``scale * std`` are
   rounded to float32 once. A subtraction and a division round the same way everywhere; a multiplication and an addition
   would be at the mercy of fused multiply-add.

Field names and meanings are timm's (``input_size``, ``interpolation``, ``crop_pct``, ``mean``, ``std``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from linglos_deploy.compat import StrEnum
from linglos_deploy.errors import UsageError
from linglos_deploy.images.layout import Layout

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Interpolation(StrEnum):
    """Filter of the resize; both antialias when shrinking."""

    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


class Fit(StrEnum):
    """How an image of any shape becomes one of the input's shape; its aspect ratio is kept."""

    COVER = "cover"
    """It covers the input, and what lies beyond the middle is cropped: for what is said of a whole image."""

    LETTERBOX = "letterbox"
    """All of it lies in the input, between bars of one colour: for what is said of places in an image."""


class Color(StrEnum):
    """Which channels a model takes, in which order."""

    RGB = "rgb"
    BGR = "bgr"
    GREY = "grey"
    RGBA = "rgba"

    @property
    def channels(self) -> int:
        """How many channels that are."""
        return {Color.GREY: 1, Color.RGBA: 4}.get(self, 3)

    @property
    def letters(self) -> str:
        """A letter for each channel."""
        return {Color.GREY: "L"}.get(self, self.value.upper())

    @classmethod
    def of_channels(cls, channels: int) -> Color:
        """Return what a number of channels stands for, as far as a number can tell: 3 are taken for RGB."""
        return {1: cls.GREY, 3: cls.RGB, 4: cls.RGBA}[channels]


@dataclass(frozen=True, slots=True)
class PreprocessSpec:
    """How images become model input.

    Attributes:
        input_size: Height and width of the model input, in pixels.
        interpolation: Filter of the resize.
        crop_pct: Share of the resized image that the centre crop keeps, in (0, 1].
        mean: Of each channel, in units of ``scale`` and in the order of ``color``.
        std: Standard deviation of each channel, likewise, above 0.
        color: Which channels the model takes, in which order.
        layout: Order of the axes of its input.
        scale: The value of a pixel that counts as 1: 255, or 1 for models that take pixels from 0 to 255.
        fit: How an image of any shape becomes one of ``input_size``; a letterbox has no use for ``crop_pct``.
        fill: Value of every channel in the bars of a letterbox, 0 to 255.
    """

    input_size: tuple[int, int] = (224, 224)
    interpolation: Interpolation = Interpolation.BICUBIC
    crop_pct: float = 0.95
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    color: Color = Color.RGB
    layout: Layout = Layout.NCHW
    scale: float = 255.0
    fit: Fit = Fit.COVER
    fill: int = 114

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_size", tuple(self.input_size))
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        object.__setattr__(self, "interpolation", Interpolation(self.interpolation))
        object.__setattr__(self, "color", Color(self.color))
        object.__setattr__(self, "layout", Layout(self.layout))
        object.__setattr__(self, "fit", Fit(self.fit))
        if len(self.input_size) != 2 or min(self.input_size) < 1:
            raise UsageError("The input size must be a height and a width.", found=str(self.input_size))
        if not 0 < self.crop_pct <= 1:
            raise UsageError("crop_pct must be in (0, 1].", found=str(self.crop_pct))
        if not 0 <= self.fill <= 255:
            raise UsageError(
                "The bars of a letterbox have a value of 8 bits.", found=str(self.fill), expected="0 to 255"
            )
        channels = self.color.channels
        numbers = self.mean + self.std
        if not len(self.mean) == len(self.std) == channels or not all(math.isfinite(number) for number in numbers):
            raise UsageError(
                "mean and std must be finite numbers, one each for every channel.",
                found=f"mean {self.mean}, std {self.std}",
                expected=f"{channels} and {channels}, because the colours are {self.color}",
            )
        if min(self.std) <= 0:
            raise UsageError("std must be above 0.", found=str(self.std))
        if not (math.isfinite(self.scale) and self.scale >= 1):
            raise UsageError(
                "scale is the value of a pixel that counts as 1.",
                found=f"{self.scale:g}",
                expected="255 for models that take 0 to 1 before mean and std, 1 for those that take 0 to 255",
                next_step=f"--scale {1 / self.scale:g}" if 0 < self.scale < 1 else "--scale 255",
            )

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.color.channels

    @property
    def resize_size(self) -> tuple[int, int]:
        """Height and width that the resized image must cover: ``floor(input_size / crop_pct)``."""
        height, width = self.input_size
        return math.floor(height / self.crop_pct), math.floor(width / self.crop_pct)

    def input_shape(self) -> tuple[int, int, int]:
        """Return the shape of one image as model input, in the order of ``layout``."""
        return (self.channels, *self.input_size) if self.layout is Layout.NCHW else (*self.input_size, self.channels)

    def offset_and_scale(self) -> tuple[np.ndarray, np.ndarray]:
        """Return ``scale * mean`` and ``scale * std``, float32, one per channel, rounded once from float64."""
        import numpy as np

        offset = (self.scale * np.asarray(self.mean, dtype=np.float64)).astype(np.float32)
        scale = (self.scale * np.asarray(self.std, dtype=np.float64)).astype(np.float32)
        return offset, scale

    def describe(self) -> str:
        """Return all of it in one line."""
        height, width = self.input_size
        numbers = (", ".join(f"{number:g}" for number in values) for values in (self.mean, self.std))
        fit = f"crop {self.crop_pct:g}" if self.fit is Fit.COVER else f"letterbox of {self.fill}"
        return (
            f"{height} x {width}, {self.color}, {self.layout}, {self.interpolation}, {fit}, "
            "scale {:g}, mean {}, std {}".format(self.scale, *numbers)
        )


def resized_shape(height: int, width: int, cover: tuple[int, int]) -> tuple[int, int]:
    """Return the size of an image of ``height`` x ``width`` after it was scaled to just cover ``cover``.

    The side that fits exactly is exact; the other one is rounded down, in integers:

    >>> resized_shape(480, 640, (256, 256))
    (256, 341)
    """
    cover_height, cover_width = cover
    if height * cover_width <= width * cover_height:
        return cover_height, max(cover_width, width * cover_height // height)
    return max(cover_height, height * cover_width // width), cover_width


def fitted_shape(height: int, width: int, inside: tuple[int, int]) -> tuple[int, int]:
    """Return the size of an image of ``height`` x ``width`` after it was scaled to just lie in ``inside``.

    One side fits exactly; the other one is rounded to the nearest whole number from 1, a half up, in integers:

    >>> fitted_shape(480, 640, (256, 256)), fitted_shape(1, 1000, (64, 96))
    ((192, 256), (1, 96))
    """
    most_height, most_width = inside
    if height * most_width <= width * most_height:
        return max(1, (2 * height * most_width + width) // (2 * width)), most_width
    return most_height, max(1, (2 * width * most_height + height) // (2 * height))


def crop_offset(size: int, crop: int) -> int:
    """Return where a centre crop begins: half of what is too much, a half rounded to the even neighbour.

    That is ``int(round((size - crop) / 2))`` of torchvision's ``center_crop``, which timm's evaluation uses:

    >>> [crop_offset(size, 224) for size in (224, 225, 226, 227, 235)]
    [0, 0, 1, 2, 6]
    """
    half = (size - crop) // 2
    return (size - crop + half % 2) // 2


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a picture lies in a model's input, so that what was found there can be said of the picture.

    Attributes:
        picture: Height and width of the picture, in pixels.
        resized: Height and width that it has in the model's input.
        offset: Row and column of the input at which it begins; negative where its edge was cropped.
        input_size: Height and width of the input.
    """

    picture: tuple[int, int]
    resized: tuple[int, int]
    offset: tuple[int, int]
    input_size: tuple[int, int]

    def boxes_in_picture(self, boxes: np.ndarray) -> np.ndarray:
        """Map boxes from the input to the picture and clip them to it.

        In float64, ``(x - offset) * picture / resized`` in this order, so that every language gets the same bits.

        Args:
            boxes: N x 4, left, top, right and bottom edges in pixels of the input.

        Returns:
            float64 of shape N x 4, in pixels of the picture.
        """
        import numpy as np

        (height, width), (top, left) = self.picture, self.offset
        offset, size = np.array([left, top] * 2, np.float64), np.array([width, height] * 2, np.float64)
        resized = np.array([self.resized[1], self.resized[0]] * 2, np.float64)
        return np.clip((boxes.astype(np.float64) - offset) * size / resized, 0.0, size)

    def map_in_picture(self, values: np.ndarray, *, unseen: int) -> np.ndarray:
        """Map a value per pixel of the input to the picture: each pixel takes that of the place where its centre lies.

        That place is ``(2 x + 1) * resized // (2 * picture) + offset``, in integers.

        Args:
            values: H x W, of the input's size.
            unseen: The value of pixels that the input did not hold.

        Returns:
            An array of the picture's size and the type of ``values``.
        """
        import numpy as np

        places = [
            (2 * np.arange(size, dtype=np.int64) + 1) * resized // (2 * size) + offset
            for size, resized, offset in zip(self.picture, self.resized, self.offset, strict=True)
        ]
        rows, columns = (np.clip(found, 0, size - 1) for found, size in zip(places, self.input_size, strict=True))
        mapped = values[rows[:, None], columns[None, :]]
        for axis, (found, size) in enumerate(zip(places, self.input_size, strict=True)):
            outside = (found < 0) | (found >= size)
            mapped[(outside, slice(None)) if axis == 0 else (slice(None), outside)] = unseen
        return mapped


def frame_of(height: int, width: int, spec: PreprocessSpec) -> Frame:
    """Return where a picture of ``height`` x ``width`` pixels lies in a model's input."""
    if spec.fit is Fit.COVER:
        resized = resized_shape(height, width, spec.resize_size)
        top, left = (-crop_offset(size, crop) for size, crop in zip(resized, spec.input_size, strict=True))
    else:
        resized = fitted_shape(height, width, spec.input_size)
        top, left = ((whole - size) // 2 for size, whole in zip(resized, spec.input_size, strict=True))
    return Frame((height, width), resized, (top, left), spec.input_size)


def to_pixels(image: Image.Image, spec: PreprocessSpec) -> np.ndarray:
    """Resize an image and crop its centre, or put it between bars.

    Args:
        image: A Pillow image in the model's colours, as from :func:`decode_colors`.
        spec: The preprocessing.

    Returns:
        uint8 of shape (H, W, C), H and W from ``spec.input_size``, channels in the order of ``spec.color``.
    """
    import numpy as np
    from PIL import Image

    filters = {
        Interpolation.BILINEAR: Image.Resampling.BILINEAR,
        Interpolation.BICUBIC: Image.Resampling.BICUBIC,
    }
    frame = frame_of(image.height, image.width, spec)
    height, width = frame.resized
    # One axis at a time, width first: asked for both, Pillow's versions differ in the order, and so in the rounding.
    image = image.resize((width, image.height), filters[spec.interpolation])
    image = image.resize((width, height), filters[spec.interpolation])
    resized = np.asarray(image).reshape(height, width, spec.channels)
    top, left = frame.offset
    pixels = np.full((*spec.input_size, spec.channels), spec.fill, np.uint8)
    inner = resized[max(0, -top) :, max(0, -left) :]
    target = pixels[max(0, top) :, max(0, left) :]
    rows, columns = min(len(inner), len(target)), min(inner.shape[1], target.shape[1])
    target[:rows, :columns] = inner[:rows, :columns]
    return pixels[..., ::-1].copy() if spec.color is Color.BGR else pixels


def normalize(pixels: np.ndarray, spec: PreprocessSpec) -> np.ndarray:
    """Turn pixels into model input.

    Args:
        pixels: uint8 of shape (N, H, W, C), as from :func:`to_pixels`.
        spec: The preprocessing.

    Returns:
        float32 of shape (N, C, H, W) or (N, H, W, C), by ``spec.layout``; contiguous.
    """
    import numpy as np

    offset, scale = spec.offset_and_scale()
    if spec.layout is Layout.NHWC:
        values = np.ascontiguousarray(pixels, dtype=np.float32)
        values -= offset
        values /= scale
        return values
    planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32)
    planes -= offset[:, None, None]
    planes /= scale[:, None, None]
    return planes


def decode_colors(image: Image.Image, color: Color) -> Image.Image:
    """Return the first frame with 8 bits a channel, in a model's colours; BGR as RGB, which :func:`to_pixels` turns.

    Pillow's own conversions, as training pipelines use them: colours of transparent pixels are kept, grey is the luma
    of ITU-R BT.601. Only grey of more than 8 bits goes another way, since Pillow cuts it off at 255: 16 bits are
    divided by 257, so that white stays white.
    """
    mode = {Color.GREY: "L", Color.RGBA: "RGBA"}.get(color, "RGB")
    if image.mode == mode:
        return image
    if image.mode.startswith("I;16") or image.mode == "I":
        image = _eight_bits(image)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the same colours, without Pillow's advice
    return image.convert(mode)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the first frame as 8-bit RGB; see :func:`decode_colors`."""
    return decode_colors(image, Color.RGB)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return 8-bit grey of a wider grey image.

    Mode ``I`` holds 32 bits, so its values tell: none above 255, and they are 8-bit ones, unless the file format (PNG,
    PGM) has such an image only where 16 bits are stored.
    """
    import numpy as np
    from PIL import Image

    values = np.asarray(image).astype(np.int64)
    stored_16_bits = image.mode.startswith("I;16") or image.format in {"PNG", "PPM"}
    if stored_16_bits or values.max(initial=0) > 255:
        values = values // 257
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
