"""Scikit-learn's handwritten digits as 64 x 64 RGB images, in a fixed stratified split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SIDE = 64
HELD_OUT = 450
SPLIT_SEED = 0
LABELS = tuple(str(digit) for digit in range(10))


@dataclass(frozen=True, slots=True)
class Split:
    """One part of the data set.

    Attributes:
        images: 64 x 64 Pillow images in mode RGB.
        targets: The digit on each image, int64.
        indices: Position of each image in scikit-learn's data set, increasing.
    """

    images: tuple[Image.Image, ...]
    targets: np.ndarray
    indices: np.ndarray


def load_split() -> tuple[Split, Split]:
    """Return the training part (1347 images) and the held-out part (450), the same on every machine.

    The data set does not say who wrote which digit, so the same hands occur in both parts.
    """
    data = load_digits()
    everything = np.arange(len(data.target))
    train, heldout = train_test_split(everything, test_size=HELD_OUT, stratify=data.target, random_state=SPLIT_SEED)
    return tuple(
        Split(tuple(to_image(data.images[i]) for i in part), data.target[part].astype(np.int64), part)
        for part in (np.sort(train), np.sort(heldout))
    )


def to_image(digit: np.ndarray) -> Image.Image:
    """Turn 8 x 8 grey levels in 0..16 into a 64 x 64 RGB image with Pillow's bicubic filter."""
    levels = np.rint(digit * (255 / 16)).astype(np.uint8)
    return Image.fromarray(levels).resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert("RGB")
