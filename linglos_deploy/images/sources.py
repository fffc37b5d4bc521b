"""What a place for images has to offer, and the synthetic one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from linglos_deploy.errors import UsageError
from linglos_deploy.images.preprocessing import PreprocessSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ImageArray = NDArray[np.uint8] | NDArray[np.float32]
    """uint8 H x W x C pixels, or one image of float32 model input; with an axis in front, a batch of them."""
else:
    ImageArray = np.ndarray

Skipped = tuple[tuple[str, str], ...]
"""Names of what was left out, each with the reason."""


class ImageSource(Protocol):
    """A place where images come from."""

    @property
    def ids(self) -> tuple[str, ...]:
        """A name for every image."""
        ...

    @property
    def labels(self) -> tuple[int, ...] | None:
        """Class of every image, if known."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of every class, if known."""
        ...

    @property
    def skipped(self) -> Skipped:
        """What was found there and is not even tried."""
        ...

    @property
    def normalized(self) -> bool:
        """Whether images come as model input instead of pixels."""
        ...

    @property
    def listing(self) -> str:
        """Digest of names, sizes and first and last bytes: cheap, and equal wherever the same data are seen."""
        ...

    def read(self, index: int) -> ImageArray:
        """Return one image: uint8 H x W x C pixels, or float32 model input, both in the model's colours.

        Raises:
            DataError: This image is unusable.
        """
        ...


class UnusableImageError(Exception):
    """One image among others cannot be used; the text is the reason."""


@dataclass(frozen=True, slots=True)
class SyntheticSource:
    """Seeded images with smooth structure: every one a sum of a few random waves, plus noise.

    Good for shapes and latency; the ranges they give are no basis for accuracy.
    """

    spec: PreprocessSpec
    count: int
    seed: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError("Calibration needs an image.", found=str(self.count), expected="1 or more")

    @property
    def ids(self) -> tuple[str, ...]:
        """Names such as ``synthetic/7``."""
        return tuple(f"synthetic/{index}" for index in range(self.count))

    @property
    def labels(self) -> None:
        """Unknown."""
        return None

    @property
    def class_names(self) -> tuple[str, ...]:
        """None."""
        return ()

    @property
    def skipped(self) -> Skipped:
        """Nothing."""
        return ()

    @property
    def normalized(self) -> bool:
        """They are pixels."""
        return False

    @property
    def listing(self) -> str:
        """Says what they are made from."""
        return f"synthetic:{self.seed}:{self.count}"

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return one image."""
        generator = np.random.default_rng([self.seed, index])
        height, width = self.spec.input_size
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        channels = self.spec.channels
        image = generator.uniform(60, 190, channels).astype(np.float32) * np.ones((height, width, 1), np.float32)
        for _ in range(4):
            angle, phase = generator.uniform(0, 2 * np.pi, 2)
            wave = 2 * np.pi / generator.uniform(4, max(5, width))
            ripple = np.sin(wave * (np.cos(angle) * x + np.sin(angle) * y) + phase).astype(np.float32)
            image += ripple[..., None] * generator.uniform(-40, 40, channels).astype(np.float32)
        image += generator.normal(0, 8, image.shape).astype(np.float32)
        return np.clip(image, 0, 255).astype(np.uint8)
