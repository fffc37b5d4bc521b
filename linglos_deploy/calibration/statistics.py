"""What is kept of the values of one tensor: a commutative monoid, so that order and sharding of the data cannot matter.

Every part merges exactly. Minimum, maximum and counts do so by nature. The histogram has fixed bins (:mod:`.bins`). The
two moments are sums over images: the values of one image are always added in the same order, rounding as
:func:`.observers.row_sums` says, and the sums of the images are added as integers (:mod:`.exact`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.calibration.bins import BIN_COUNT, bin_of, fold_signs, non_finite
from linglos_deploy.calibration.exact import SQUARE_UNIT, SUM_UNIT, from_units
from linglos_deploy.calibration.groups import GroupHistograms, add_histograms
from linglos_deploy.errors import CalibrationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPIKE = 0.05
"""Share of all values in the last bin of a range from which they are taken to be one value. Of a smooth distribution,
the last bin, 1/128 of the range, holds far less."""


@dataclass(frozen=True, slots=True, eq=False)
class ChannelStatistics:
    """Ranges and moments of every channel of one tensor.

    Attributes:
        minimum: float32 of shape (C,); ``inf`` where a channel had no finite value.
        maximum: float32 of shape (C,); ``-inf`` where a channel had no finite value.
        count: Finite values of each channel, int64 of shape (C,).
        sums: Sum of each channel in units of ``2**-149``.
        squares: Sum of squares of each channel in units of ``2**-298``.
    """

    minimum: NDArray[np.float32]
    maximum: NDArray[np.float32]
    count: NDArray[np.int64]
    sums: tuple[int, ...]
    squares: tuple[int, ...]

    @property
    def absolute_maximum(self) -> NDArray[np.float32]:
        """Largest magnitude of each channel, float32 of shape (C,); 0 where a channel had no finite value."""
        magnitude = np.maximum(np.abs(self.minimum), np.abs(self.maximum))
        return np.where(self.count > 0, magnitude, np.float32(0))

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean of each channel, float64 of shape (C,)."""
        return np.array(
            [from_units(total, SUM_UNIT, count=int(n)) for total, n in zip(self.sums, self.count, strict=True)]
        )

    @property
    def mean_square(self) -> NDArray[np.float64]:
        """Mean square of each channel, float64 of shape (C,)."""
        return np.array(
            [from_units(total, SQUARE_UNIT, count=int(n)) for total, n in zip(self.squares, self.count, strict=True)]
        )

    def merge(self, other: ChannelStatistics) -> ChannelStatistics:
        """Return what one observer of both would have seen.

        Raises:
            CalibrationError: The numbers of channels differ.
        """
        if len(self.sums) != len(other.sums):
            raise CalibrationError(
                "Statistics of tensors with different numbers of channels cannot be merged.",
                found=f"{len(self.sums)} and {len(other.sums)} channels",
            )
        return ChannelStatistics(
            minimum=np.minimum(self.minimum, other.minimum),
            maximum=np.maximum(self.maximum, other.maximum),
            count=self.count + other.count,
            sums=tuple(a + b for a, b in zip(self.sums, other.sums, strict=True)),
            squares=tuple(a + b for a, b in zip(self.squares, other.squares, strict=True)),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ChannelStatistics) and (
            np.array_equal(self.minimum, other.minimum)
            and np.array_equal(self.maximum, other.maximum)
            and np.array_equal(self.count, other.count)
            and self.sums == other.sums
            and self.squares == other.squares
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, eq=False)
class TensorStatistics:
    """What was seen of one tensor.

    Attributes:
        count: Values seen, non-finite ones included.
        non_finite: Infinities and NaNs among them. They take no part in ``minimum``, ``maximum`` and the moments.
        minimum: Smallest finite value, a float32; ``inf`` if there was none.
        maximum: Largest finite value, a float32; ``-inf`` if there was none.
        total: Sum of the finite values that were sampled, in units of ``2**-149``.
        squares: Sum of their squares, in units of ``2**-298``.
        bins: Occupied bins of the histogram, uint16, rising; see :mod:`linglos_deploy.calibration.bins`.
        counts: Sampled values in each of them, int64, above 0.
        channels: Ranges and moments per channel, where they were asked for.
        groups: The histogram once more, by channels that readers weigh alike; ``None`` where there is one such group,
            or its readers do not say.
    """

    count: int = 0
    non_finite: int = 0
    minimum: float = math.inf
    maximum: float = -math.inf
    total: int = 0
    squares: int = 0
    bins: NDArray[np.uint16] = field(default_factory=lambda: np.empty(0, dtype=np.uint16))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    channels: ChannelStatistics | None = None
    groups: GroupHistograms | None = None

    @property
    def finite(self) -> int:
        """Number of finite values seen."""
        return self.count - self.non_finite

    @property
    def sampled(self) -> int:
        """Number of finite values that the histogram and the moments cover; all of them unless sampling was on."""
        return int(self.counts[~non_finite(self.bins)].sum())

    @property
    def absolute_maximum(self) -> float:
        """Largest magnitude of a finite value, 0.0 if there was none."""
        return max(abs(self.minimum), abs(self.maximum)) if self.finite else 0.0

    @property
    def mean(self) -> float:
        """Mean of the sampled finite values, 0.0 if there were none."""
        return from_units(self.total, SUM_UNIT, count=self.sampled)

    @property
    def mean_square(self) -> float:
        """Mean of the squares of the sampled finite values, 0.0 if there were none."""
        return from_units(self.squares, SQUARE_UNIT, count=self.sampled)

    @property
    def std(self) -> float:
        """Standard deviation of the sampled finite values, 0.0 if there were none."""
        return math.sqrt(max(0.0, self.mean_square - self.mean**2))

    @property
    def histogram(self) -> NDArray[np.int64]:
        """All 65 536 bins, int64."""
        dense = np.zeros(BIN_COUNT, dtype=np.int64)
        dense[self.bins] = self.counts
        return dense

    def magnitudes(self) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
        """Return occupied bins and counts of the magnitudes of the finite values, rising."""
        return fold_signs(self.bins, self.counts)

    def spikes(self) -> tuple[float, ...]:
        """Return the magnitudes of the smallest and the largest value, where many values are just that.

        The background of pictures is one value, and so is where an activation function ends. A bin is too coarse to
        tell whether a grid meets it, but the ends of the range are known exactly. Zero lies on every grid and is left
        out.
        """
        total = int(self.counts.sum())
        if not self.finite or total == 0:
            return ()
        ends = dict.fromkeys((self.minimum, self.maximum))
        many = {abs(end) for end in ends if end and int(self.counts[self.bins == bin_of(end)].sum()) >= SPIKE * total}
        return tuple(sorted(many))

    def weighed_magnitudes(self) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
        """Return the same, each value counted by the gain of its channel's group; plainly where there are no groups."""
        if self.groups is None:
            bins, counts = self.magnitudes()
            return bins, counts.astype(np.float64)
        folded = [fold_signs(bins, counts) for bins, counts in zip(self.groups.bins, self.groups.counts, strict=True)]
        occupied, position = np.unique(np.concatenate([bins for bins, _ in folded]), return_inverse=True)
        gains = zip(folded, self.groups.groups.gains, strict=True)
        weights = np.concatenate([counts * gain for (_, counts), gain in gains])
        return occupied, np.bincount(position, weights=weights, minlength=len(occupied)).astype(np.float64)

    def merge(self, other: TensorStatistics) -> TensorStatistics:
        """Return what one observer of both would have seen, exactly.

        Raises:
            CalibrationError: Only one of them has statistics per channel or group, or their channels or groups differ.
        """
        bins, counts = add_histograms((self.bins, self.counts), (other.bins, other.counts))
        return TensorStatistics(
            count=self.count + other.count,
            non_finite=self.non_finite + other.non_finite,
            minimum=min(self.minimum, other.minimum),
            maximum=max(self.maximum, other.maximum),
            total=self.total + other.total,
            squares=self.squares + other.squares,
            bins=bins,
            counts=counts,
            channels=_merge_channels(self.channels, other.channels),
            groups=_merge_groups(self, other),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TensorStatistics) and (
            self._scalars() == other._scalars()
            and np.array_equal(self.bins, other.bins)
            and np.array_equal(self.counts, other.counts)
            and self.channels == other.channels
            and self.groups == other.groups
        )

    __hash__ = None  # type: ignore[assignment]

    def _scalars(self) -> tuple[int, int, float, float, int, int]:
        return self.count, self.non_finite, self.minimum, self.maximum, self.total, self.squares


def _merge_groups(first: TensorStatistics, second: TensorStatistics) -> GroupHistograms | None:
    if first.groups is not None and second.groups is not None:
        return first.groups.merge(second.groups)
    if first.groups is None and second.groups is None:
        return None
    raise CalibrationError(
        "Histograms with and without groups of channels cannot be merged.",
        next_step="calibrate all shards again with the same release",
    )


def _merge_channels(first: ChannelStatistics | None, second: ChannelStatistics | None) -> ChannelStatistics | None:
    if first is None and second is None:
        return None
    if first is None or second is None:
        raise CalibrationError(
            "Statistics with and without channels cannot be merged.",
            next_step="collect all shards with the same setting of --per-channel",
        )
    return first.merge(second)
