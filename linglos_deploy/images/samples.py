"""What every set of model inputs offers, images or arrays: samples in batches, with names, parts and a digest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from linglos_deploy.compat import Self
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.images.sources import Skipped
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.signature import Batch, ModelSignature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    AnyArray = NDArray[Any]
else:
    AnyArray = np.ndarray


@dataclass(frozen=True, slots=True)
class Samples:
    """Some images, ready for a model.

    Attributes:
        batch: The model's input.
        ids: Name of each image.
        position: Place in the dataset of the image that comes after the last of these.
        skipped: Images that turned out to be unusable on the way here, with reasons.
    """

    batch: Mapping[str, AnyArray]
    ids: tuple[str, ...]
    position: int
    skipped: Skipped = ()

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.ids)


class Dataset(Protocol):
    """Inputs of a model; immutable, so that parts of it can be handed out."""

    @property
    def spec(self) -> PreprocessSpec | None:
        """How images become model input; ``None`` where the samples are model input and nothing is known of images."""
        ...

    @property
    def ids(self) -> tuple[str, ...]:
        """Name of each sample."""
        ...

    @property
    def labels(self) -> tuple[int, ...] | None:
        """Class index of each sample, ``None`` if unknown."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, empty if unknown."""
        ...

    @property
    def synthetic(self) -> bool:
        """Whether the samples are made up."""
        ...

    @property
    def skipped(self) -> Skipped:
        """What was found but cannot be used, with reasons."""
        ...

    @property
    def listing(self) -> str:
        """Digest of the whole selection, cheap, before any split into shards."""
        ...

    @property
    def shards(self) -> int:
        """Number of shards that the selection was split into."""
        ...

    @property
    def shard_index(self) -> int:
        """Which of them this is, from 1."""
        ...

    @property
    def digest(self) -> str:
        """Digest of the set of samples, whatever their order and names."""
        ...

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def batches(self, batch_size: int, *, signature: ModelSignature | None = None, start: int = 0) -> Iterator[Batch]:
        """Yield the samples as model input; the last batch may be smaller."""
        ...

    def samples(self, batch_size: int, *, signature: ModelSignature | None = None, start: int = 0) -> Iterator[Samples]:
        """Yield the same, with names."""
        ...

    def verified(self, *, progress: Progress = SILENT) -> Self:
        """Read everything once; return the dataset without what turned out to be unusable."""
        ...

    def shard(self, index: int, count: int) -> Self:
        """Return shard ``index``, from 1, of ``count``."""
        ...

    def limit(self, count: int | None, *, seed: int = 0) -> Self:
        """Return at most ``count`` samples, a seeded choice; all if ``None``."""
        ...
