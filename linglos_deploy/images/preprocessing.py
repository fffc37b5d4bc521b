"""How an image becomes model input: one description for Python, for the ONNX graph and for C++.

The steps, each with one defined result for every input:

1. decode to 8-bit RGB (:func:`to_rgb`);
2. resize with Pillow's antialiased filter so that the image covers ``resize_size``, keeping its aspect ratio: first
   the width, then the height, each rounded to 8 bits;
3. crop the centre to ``input_size``;
4. normalize, in float32: ``(pixel - 255 * mean) / (255 * std)``, where ``255 * mean`` and ``255 * std`` are rounded
   to float32 once. A subtraction and a division round the same way everywhere; a multiplication and an addition would
   be at the mercy of fused multiply-add.

Field names and meanings are timm's (``input_size``, ``interpolation``, ``crop_pct``, ``mean``, ``std``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from linglos_deploy.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Interpolation(StrEnum):
    """Filter of the resize; both antialias when shrinking."""

    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


@dataclass(frozen=True, slots=True)
class PreprocessSpec:
    """How images become model input.

    Attributes:
        input_size: Height and width of the model input, in pixels.
        interpolation: Filter of the resize.
        crop_pct: Share of the resized image that the centre crop keeps, in (0, 1].
        mean: Per-channel mean in [0, 1], RGB.
        std: Per-channel standard deviation, RGB, above 0.
    """

    input_size: tuple[int, int] = (224, 224)
    interpolation: Interpolation = Interpolation.BICUBIC
    crop_pct: float = 0.95
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_size", tuple(self.input_size))
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        object.__setattr__(self, "interpolation", Interpolation(self.interpolation))
        if len(self.input_size) != 2 or min(self.input_size) < 1:
            raise UsageError("The input size must be a height and a width.", found=str(self.input_size))
        if not 0 < self.crop_pct <= 1:
            raise UsageError("crop_pct must be in (0, 1].", found=str(self.crop_pct))
        if len(self.mean) != 3 or len(self.std) != 3 or not all(math.isfinite(x) for x in self.mean + self.std):
            raise UsageError("mean and std must be three finite numbers each.", found=f"{self.mean}, {self.std}")
        if min(self.std) <= 0:
            raise UsageError("std must be above 0.", found=str(self.std))

    @property
    def resize_size(self) -> tuple[int, int]:
        """Height and width that the resized image must cover: ``floor(input_size / crop_pct)``."""
        height, width = self.input_size
        return math.floor(height / self.crop_pct), math.floor(width / self.crop_pct)

    def offset_and_scale(self) -> tuple[np.ndarray, np.ndarray]:
        """Return ``255 * mean`` and ``255 * std``, float32 of shape (3,), rounded once from float64."""
        import numpy as np

        offset = (255.0 * np.asarray(self.mean, dtype=np.float64)).astype(np.float32)
        scale = (255.0 * np.asarray(self.std, dtype=np.float64)).astype(np.float32)
        return offset, scale


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


def to_pixels(image: Image.Image, spec: PreprocessSpec) -> np.ndarray:
    """Resize and centre-crop an RGB image.

    Args:
        image: A Pillow image in mode ``RGB``.
        spec: The preprocessing.

    Returns:
        uint8 of shape (H, W, 3), H and W from ``spec.input_size``.
    """
    import numpy as np
    from PIL import Image

    filters = {
        Interpolation.BILINEAR: Image.Resampling.BILINEAR,
        Interpolation.BICUBIC: Image.Resampling.BICUBIC,
    }
    height, width = resized_shape(image.height, image.width, spec.resize_size)
    # One axis at a time, width first: asked for both, Pillow's versions differ in the order, and so in the rounding.
    image = image.resize((width, image.height), filters[spec.interpolation])
    image = image.resize((width, height), filters[spec.interpolation])
    top, left = ((size - crop) // 2 for size, crop in zip((height, width), spec.input_size, strict=True))
    crop_height, crop_width = spec.input_size
    return np.asarray(image)[top : top + crop_height, left : left + crop_width].copy()


def normalize(pixels: np.ndarray, spec: PreprocessSpec) -> np.ndarray:
    """Turn pixels into model input.

    Args:
        pixels: uint8 of shape (N, H, W, 3).
        spec: The preprocessing.

    Returns:
        float32 of shape (N, 3, H, W), contiguous.
    """
    import numpy as np

    offset, scale = spec.offset_and_scale()
    planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32)
    planes -= offset[:, None, None]
    planes /= scale[:, None, None]
    return planes


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the first frame as 8-bit RGB.

    Transparent pixels are laid over black; 16-bit grey is divided by 257, so that white stays white; palettes, CMYK
    and grey go through Pillow's own conversion.
    """
    import numpy as np
    from PIL import Image

    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16") or image.mode == "I":
        wide = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(np.minimum(wide // 257, 255).astype(np.uint8))
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
    return image.convert("RGB")
