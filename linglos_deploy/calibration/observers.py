"""Gathers the statistics of one tensor, batch after batch, in constant memory.

``observe(a + b) == observe(a).merge(observe(b))`` holds bit for bit, where ``+`` is concatenation along the first axis.
The first axis counts images; see :class:`linglos_deploy.graph.axes.ImagesAt` for tensors that keep them elsewhere.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.calibration.bins import upper_halves
from linglos_deploy.calibration.counter import BinCounter, scratch
from linglos_deploy.calibration.exact import SQUARE_UNIT, SUM_UNIT, to_units
from linglos_deploy.calibration.groups import ChannelGroups, GroupHistograms, add_histograms
from linglos_deploy.calibration.sampling import EVERYTHING, Sampling
from linglos_deploy.calibration.statistics import ChannelStatistics, TensorStatistics
from linglos_deploy.errors import CalibrationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ChannelStatistics", "GroupedAxis", "TensorObserver", "TensorStatistics", "observe"]

_GATHERED = 1 << 18
"""Values of a group that are picked out at once: 1 MiB of scratch memory per thread."""

_BLOCK = 1024
"""Values added in float32; the sums of blocks are added in float64."""

_LONG_ROW = 4 * _BLOCK
"""Shorter rows are added in float64 throughout, which costs less than going by blocks."""

_FLOAT32_SAFE = (2.0**-40, 2.0**58)
"""Largest magnitude of a row whose squares neither overflow in a block nor vanish where they count."""


def observe(
    values: NDArray[np.float32],
    *,
    tensor: str = "",
    channel_axis: int | None = None,
    grouped: GroupedAxis | None = None,
    sampling: Sampling = EVERYTHING,
) -> TensorStatistics:
    """Return the statistics of one array.

    Args:
        values: float32 of shape (N, ...); the first axis counts images.
        tensor: Name of the tensor, which decides what a sampling covers.
        channel_axis: Keep ranges and moments per entry of this axis, too; ``None`` keeps none.
        grouped: Keep a histogram per group of channels, too.
        sampling: Which elements the histogram and the moments cover.

    >>> observe(np.array([1.0, -3.0], dtype=np.float32)).minimum
    -3.0
    """
    observer = TensorObserver(tensor, channel_axis=channel_axis, grouped=grouped, sampling=sampling)
    observer.update(values)
    return observer.statistics()


@dataclass(frozen=True, slots=True)
class GroupedAxis:
    """Channels in groups, and where they lie in the values.

    Attributes:
        axis: Of the values, whose first axis counts images.
        groups: Of this axis's entries; two groups or more.
    """

    axis: int
    groups: ChannelGroups


class TensorObserver:
    """Adds up the statistics of one tensor. Not for use by two threads at once.

    Args:
        tensor: Name of the tensor, for messages and for the sampling.
        channel_axis: Keep ranges and moments per entry of this axis of the values, too; ``None`` keeps none.
        grouped: Keep a histogram per group of channels, too; ``None`` keeps one of all values.
        sampling: Which elements the histogram and the moments cover.
    """

    def __init__(
        self,
        tensor: str,
        *,
        channel_axis: int | None = None,
        grouped: GroupedAxis | None = None,
        sampling: Sampling = EVERYTHING,
    ) -> None:
        self.tensor = tensor
        self._channel_axis = channel_axis
        self._grouped = grouped
        groups = None if grouped is None else grouped.groups
        self._channels_of = () if groups is None else tuple(map(groups.channels_of, range(len(groups))))
        self._sampling = sampling
        self._places: NDArray[np.intp] | None = None
        self._size = -1
        self._counters: tuple[BinCounter, ...] = ()
        self.start_from(TensorStatistics())

    def start_from(self, seen: TensorStatistics) -> None:
        """Take over what was seen before, instead of what was seen so far."""
        self._values = seen.count
        self._non_finite = seen.non_finite
        self._minimum = seen.minimum
        self._maximum = seen.maximum
        self._total = seen.total
        self._squares = seen.squares
        if self._grouped is None:
            self._counters = (BinCounter(seen.bins, seen.counts),)
        elif seen.groups is None:
            self._counters = tuple(BinCounter() for _ in self._channels_of)
        else:
            self._counters = tuple(map(BinCounter, seen.groups.bins, seen.groups.counts))
        self._channels = seen.channels

    def update(self, values: NDArray[np.float32]) -> None:
        """Take in one batch.

        Args:
            values: float32 of shape (N, ...); the first axis counts images.

        Raises:
            CalibrationError: The values are not float32, or do not have the channels that were announced.
        """
        if values.dtype != np.float32:
            raise CalibrationError(
                f"Tensor '{self.tensor}' is not float32.", found=values.dtype.name, expected="a float32 graph"
            )
        if self._channel_axis is not None:
            self._update_channels(values, self._channel_axis)
        if values.size == 0:
            return
        rows = np.ascontiguousarray(values).reshape(len(values) if values.ndim else 1, -1)
        self._values += rows.size
        self._count_bins(rows, values.shape)
        lows, highs = rows.min(axis=1), rows.max(axis=1)
        if not (np.isfinite(lows).all() and np.isfinite(highs).all()):  # a NaN anywhere makes both NaN
            rows, lows, highs = self._without_gaps(rows)
        # Adding 0.0 turns -0.0 into 0.0; which of them was met first must not show.
        self._minimum = min(self._minimum, float(lows.min()) + 0.0)
        self._maximum = max(self._maximum, float(highs.max()) + 0.0)
        totals, squares = row_sums(self._sampled(rows), np.maximum(-lows, highs))
        self._total += to_units(totals, SUM_UNIT)
        self._squares += to_units(squares, SQUARE_UNIT)

    def statistics(self) -> TensorStatistics:
        """Return what was seen so far."""
        histograms = [counter.histogram() for counter in self._counters]
        bins, counts = functools.reduce(add_histograms, histograms)
        groups = None
        if self._grouped is not None:
            parts = zip(*histograms, strict=True)
            groups = GroupHistograms(self._grouped.groups, *map(tuple, parts))
        return TensorStatistics(
            count=self._values,
            non_finite=self._non_finite,
            minimum=self._minimum,
            maximum=self._maximum,
            total=self._total,
            squares=self._squares,
            bins=bins,
            counts=counts,
            channels=self._channels,
            groups=groups,
        )

    def _without_gaps(
        self, rows: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Count what is not finite; return rows with zeros in its place, and the ranges of what is finite."""
        finite = np.isfinite(rows)
        self._non_finite += int(rows.size - finite.sum())
        lows = np.where(finite, rows, np.float32(np.inf)).min(axis=1)
        highs = np.where(finite, rows, np.float32(-np.inf)).max(axis=1)
        return np.where(finite, rows, np.float32(0)), lows, highs

    def _sampled(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        if rows.shape[1] != self._size:
            self._size = rows.shape[1]
            self._places = self._sampling.places(self.tensor, self._size)
        return rows if self._places is None else np.take(rows, self._places, axis=1)

    def _count_bins(self, rows: NDArray[np.float32], shape: tuple[int, ...]) -> None:
        if self._grouped is None:
            self._counters[0].add(upper_halves(self._sampled(rows).reshape(-1)))
            return
        axis = self._grouped.axis % len(shape) if -len(shape) < self._grouped.axis < len(shape) else 0
        channels = len(self._grouped.groups.members)
        if axis == 0 or shape[axis] != channels:
            raise CalibrationError(
                f"Tensor '{self.tensor}' does not have the channels that its readers' weights have.",
                found=f"shape {list(shape)}",
                expected=f"{channels} channels on axis {self._grouped.axis}",
                next_step="report this graph: its weights and its tensors contradict each other",
            )
        behind = math.prod(shape[axis + 1 :])
        parts = self._of_groups(rows, behind) if self._sampling.every == 1 else self._sampled_of_groups(rows, behind)
        for counter, part in parts:
            counter.add(upper_halves(part.reshape(-1)))

    def _of_groups(self, rows: NDArray[np.float32], behind: int) -> Iterator[tuple[BinCounter, NDArray[np.float32]]]:
        """Yield the values of each group, in pieces that fit a cache."""
        assert self._grouped is not None
        blocks = rows.reshape(-1, len(self._grouped.groups.members), behind)
        for counter, channels in zip(self._counters, self._channels_of, strict=True):
            at_once = max(1, _GATHERED // (len(channels) * behind))
            for start in range(0, len(blocks), at_once):
                block = blocks[start : start + at_once]
                size = len(block) * len(channels) * behind
                picked = scratch("picked", size, np.float32).reshape(len(block), len(channels), behind)
                yield counter, np.take(block, channels, axis=1, out=picked, mode="clip")

    def _sampled_of_groups(
        self, rows: NDArray[np.float32], behind: int
    ) -> Iterator[tuple[BinCounter, NDArray[np.float32]]]:
        assert self._grouped is not None
        sampled = self._sampled(rows)
        members = np.array(self._grouped.groups.members)
        assert self._places is not None
        groups = members[self._places // behind % len(members)]
        for group, counter in enumerate(self._counters):
            yield counter, sampled[:, groups == group]

    def _update_channels(self, values: NDArray[np.float32], axis: int) -> None:
        if values.ndim < 2 or not -values.ndim < axis < values.ndim or axis == 0:
            raise CalibrationError(
                f"Tensor '{self.tensor}' has no channels.",
                found=f"shape {list(values.shape)}",
                expected=f"two axes or more: the first for images, axis {axis} for channels",
                next_step="leave it out of the tensors with statistics per channel",
            )
        seen = _observe_channels(np.ascontiguousarray(np.moveaxis(values, axis, 1)))
        self._channels = seen if self._channels is None else self._channels.merge(seen)


def row_sums(rows: NDArray[np.float32], largest: NDArray[np.float32]) -> tuple[list[float], list[float]]:
    """Return sum and sum of squares of every row, with a relative error below 1e-6 of the sums of magnitudes.

    The order of the additions depends on the row alone, so that it gives the same bits in any batch.

    Args:
        rows: float32 of shape (N, M), contiguous, finite.
        largest: Largest magnitude of each row, float32 of shape (N,).
    """
    if rows.shape[1] < _LONG_ROW:
        return _wide_sums(rows)
    low, high = _FLOAT32_SAFE
    safe = [low <= top <= high for top in largest.tolist()]
    if all(safe):
        return _block_sums(rows)
    sums = [_block_sums(row) if fits else _wide_sums(row) for row, fits in zip(rows[:, None], safe, strict=True)]
    return [total for totals, _ in sums for total in totals], [square for _, squares in sums for square in squares]


def _block_sums(rows: NDArray[np.float32]) -> tuple[list[float], list[float]]:
    whole = rows.shape[1] // _BLOCK * _BLOCK
    blocks = rows[:, :whole].reshape(len(rows), -1, _BLOCK)
    totals = np.add.reduce(np.vecdot(blocks, _ONES), axis=1, dtype=np.float64).tolist()
    squares = np.add.reduce(np.vecdot(blocks, blocks), axis=1, dtype=np.float64).tolist()
    if whole < rows.shape[1]:
        rest = _wide_sums(rows[:, whole:])
        totals = [a + b for a, b in zip(totals, rest[0], strict=True)]
        squares = [a + b for a, b in zip(squares, rest[1], strict=True)]
    return totals, squares


def _wide_sums(rows: NDArray[np.float32]) -> tuple[list[float], list[float]]:
    wide = rows.astype(np.float64)
    return np.add.reduce(wide, axis=1).tolist(), np.einsum("ij,ij->i", wide, wide).tolist()


def _observe_channels(values: NDArray[np.float32]) -> ChannelStatistics:
    images, channels = values.shape[:2]
    rows = values.reshape(images, channels, math.prod(values.shape[2:]))
    finite = np.isfinite(rows)
    clean = rows if finite.all() else np.where(finite, rows, np.float32(0))
    flat = clean.reshape(images * channels, rows.shape[2])
    totals, squares = row_sums(flat, np.abs(flat).max(axis=1, initial=0))
    return ChannelStatistics(
        minimum=np.where(finite, rows, np.float32(np.inf)).min(axis=(0, 2), initial=np.inf) + np.float32(0),
        maximum=np.where(finite, rows, np.float32(-np.inf)).max(axis=(0, 2), initial=-np.inf) + np.float32(0),
        count=finite.sum(axis=(0, 2), dtype=np.int64),
        sums=tuple(to_units(totals[channel::channels], SUM_UNIT) for channel in range(channels)),
        squares=tuple(to_units(squares[channel::channels], SQUARE_UNIT) for channel in range(channels)),
    )


_ONES = np.ones(_BLOCK, dtype=np.float32)
