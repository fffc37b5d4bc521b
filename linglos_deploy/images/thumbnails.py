"""Small pictures of what a model was given, to be put into a page."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt

SIDE = 96
"""Longest side of a thumbnail in pixels."""

START = "data:image/png;base64,"


def thumbnail(sample: npt.NDArray[np.generic]) -> str:
    """Return one image of a model's input as a data URI of a PNG file; empty if it is no image.

    Numbers that are no pixels are stretched from their smallest to their largest, so a normalized image looks like what
    it was made from, but for contrast.

    Args:
        sample: H x W x C or C x H x W with one or three channels, uint8 pixels or floating point numbers of any range.
    """
    from PIL import Image

    pixels = _channels_last(sample)
    if pixels is None:
        return ""
    if pixels.dtype != np.uint8:
        numbers = np.nan_to_num(np.asarray(pixels, np.float64))
        low, high = float(numbers.min()), float(numbers.max())
        pixels = np.round((numbers - low) * (255 / (high - low) if high > low else 0.0)).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))
    image.thumbnail((SIDE, SIDE))
    written = io.BytesIO()
    image.save(written, "PNG", optimize=True)
    return START + base64.b64encode(written.getvalue()).decode("ascii")


def _channels_last(sample: npt.NDArray[np.generic]) -> npt.NDArray[np.generic] | None:
    if sample.ndim != 3 or 0 in sample.shape or not (sample.dtype == np.uint8 or sample.dtype.kind == "f"):
        return None
    if sample.shape[2] in (1, 3):
        return sample
    return np.moveaxis(sample, 0, 2) if sample.shape[0] in (1, 3) else None
