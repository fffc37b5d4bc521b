"""What one image looks like, in a few numbers: enough to judge a whole dataset without keeping its images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.images.digests import as_hex, image_digest
from linglos_deploy.images.layout import Layout
from linglos_deploy.images.preprocessing import PreprocessSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

Channels = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image, as the model gets it.

    Attributes:
        id: Its name.
        digest: SHA-256 of its values, equal for duplicates.
        minimum: Smallest normalized value of each channel, in the model's order.
        maximum: Largest normalized value of each channel.
        mean: Mean of each channel's normalized values.
        mean_square: Mean square of each channel's normalized values.
    """

    id: str
    digest: str
    minimum: Channels
    maximum: Channels
    mean: Channels
    mean_square: Channels

    @property
    def constant(self) -> bool:
        """Whether all pixels are the same colour."""
        return self.minimum == self.maximum


def describe_image(image_id: str, image: NDArray[np.uint8] | NDArray[np.float32], spec: PreprocessSpec) -> ImageRecord:
    """Describe uint8 H x W x C pixels, as normalization will change them, or one image of float32 model input."""
    if image.dtype == np.uint8:
        offset, scale = (array.astype(np.float64) for array in spec.offset_and_scale())
        values = image.reshape(-1, spec.channels)
        low, high = values.min(axis=0), values.max(axis=0)
        counts = [np.bincount(values[:, channel], minlength=256) for channel in range(spec.channels)]
        levels = (np.arange(256)[None, :] - offset[:, None]) / scale[:, None]
        share = np.array(counts) / len(values)
        mean, square = (share * levels).sum(axis=1), (share * levels**2).sum(axis=1)
        minimum, maximum = (low - offset) / scale, (high - offset) / scale
    else:
        planes = np.moveaxis(image, -1, 0) if spec.layout is Layout.NHWC else image
        planes = planes.reshape(spec.channels, -1)
        minimum, maximum = planes.min(axis=1), planes.max(axis=1)
        mean = planes.mean(axis=1, dtype=np.float64)
        square = np.square(planes, dtype=np.float64).mean(axis=1)
    return ImageRecord(
        id=image_id,
        digest=as_hex(image_digest(image)),
        minimum=_channels(minimum),
        maximum=_channels(maximum),
        mean=_channels(mean),
        mean_square=_channels(square),
    )


def _channels(values: NDArray[np.floating]) -> Channels:
    return tuple(float(value) for value in values)
