"""Which elements of a tensor the histogram and the moments cover: all of them, or a seeded share.

Minimum, maximum and counts always cover every element.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Sampling:
    """One element, picked by a seed, out of every run of ``every`` elements of an image's tensor.

    The picked places depend on the seed, the tensor's name and its size per image, and on nothing else, so that batches
    and shards cannot change them.

    Attributes:
        every: Length of a run; 1 covers every element.
        seed: Picks the place within each run.
    """

    every: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.every < 1:
            raise UsageError(
                "Sampling takes one element out of 1 or more.", found=str(self.every), expected="1 or more"
            )
        if self.seed < 0:
            raise UsageError("A seed cannot be negative.", found=str(self.seed), expected="0 or more")
        if self.every == 1:  # the seed is then without meaning, and equal settings must compare equal
            object.__setattr__(self, "seed", 0)

    def places(self, tensor: str, size: int) -> NDArray[np.intp] | None:
        """Return the positions to keep out of ``size`` elements, rising; ``None`` keeps all."""
        if self.every == 1:
            return None
        key = hashlib.sha256(f"{self.seed}\0{tensor}\0{size}".encode()).digest()
        starts = np.arange(0, size, self.every, dtype=np.intp)
        lengths = np.minimum(self.every, size - starts)
        return starts + (np.random.default_rng(list(key)).random(len(starts)) * lengths).astype(np.intp)


EVERYTHING = Sampling()
