"""Gathers the statistics of one tensor, batch after batch, in constant memory.

``observe(a + b) == observe(a).merge(observe(b))`` holds bit for bit, where ``+`` is concatenation along the first axis.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.calibration.bins import upper_halves
from linglos_deploy.calibration.exact import SQUARE_UNIT, SUM_UNIT, to_units
from linglos_deploy.calibration.sampling import EVERYTHING, Sampling
from linglos_deploy.calibration.statistics import ChannelStatistics, TensorStatistics
from linglos_deploy.errors import CalibrationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ChannelStatistics", "TensorObserver", "TensorStatistics", "observe"]

_COUNT_CHUNK = 1 << 20
"""Values counted at once: 8 MiB of scratch memory per thread."""

_PENDING = 1 << 17
"""Values of a small tensor that are put by until it is worth going through 65 536 bins: 256 KiB per tensor."""

_WIDEN_CHUNK = 1 << 16
"""Values widened to float64 at once: 512 KiB, which the cache holds."""

_DOT_CHUNK = 1 << 13
"""Values added by one BLAS call. OpenBLAS uses one thread up to 10 000, so that the order of additions is fixed."""

_SHORT_ROW = 512
"""Rows below this length are added together with others, because a BLAS call for each would cost more."""


def observe(
    values: NDArray[np.float32], *, tensor: str = "", per_channel: bool = False, sampling: Sampling = EVERYTHING
) -> TensorStatistics:
    """Return the statistics of one array.

    Args:
        values: float32 of shape (N, ...); the first axis counts images.
        tensor: Name of the tensor, which decides what a sampling covers.
        per_channel: Whether to keep ranges and moments per entry of the second axis, too.
        sampling: Which elements the histogram and the moments cover.

    >>> observe(np.array([1.0, -3.0], dtype=np.float32)).minimum
    -3.0
    """
    observer = TensorObserver(tensor, per_channel=per_channel, sampling=sampling)
    observer.update(values)
    return observer.statistics()


class TensorObserver:
    """Adds up the statistics of one tensor. Not for use by two threads at once.

    Args:
        tensor: Name of the tensor, for messages and for the sampling.
        per_channel: Whether to keep ranges and moments per entry of the second axis, too.
        sampling: Which elements the histogram and the moments cover.
    """

    def __init__(
        self,
        tensor: str,
        *,
        per_channel: bool = False,
        sampling: Sampling = EVERYTHING,
    ) -> None:
        self.tensor = tensor
        self._per_channel = per_channel
        self._sampling = sampling
        self._places: NDArray[np.intp] | None = None
        self._size = -1
        self._pending: NDArray[np.uint16] | None = None
        self.start_from(TensorStatistics())

    def start_from(self, seen: TensorStatistics) -> None:
        """Take over what was seen before, instead of what was seen so far."""
        self._put_by = 0
        self._values = seen.count
        self._non_finite = seen.non_finite
        self._minimum = seen.minimum
        self._maximum = seen.maximum
        self._total = seen.total
        self._squares = seen.squares
        self._histogram = seen.histogram
        self._channels = seen.channels

    def update(self, values: NDArray[np.float32]) -> None:
        """Take in one batch.

        Args:
            values: float32 of shape (N, ...); the first axis counts images.

        Raises:
            CalibrationError: The values are not float32, or have no channels where statistics per channel were asked.
        """
        if values.dtype != np.float32:
            raise CalibrationError(
                f"Tensor '{self.tensor}' is not float32.", found=values.dtype.name, expected="a float32 graph"
            )
        if self._per_channel:
            self._update_channels(values)
        if values.size == 0:
            return
        rows = np.ascontiguousarray(values).reshape(len(values) if values.ndim else 1, -1)
        self._values += rows.size
        if self._update_range(rows):
            self._update_sampled(self._sampled(rows))
        else:
            self._update_with_gaps(rows)

    def statistics(self) -> TensorStatistics:
        """Return what was seen so far."""
        self._count_pending()
        bins = np.flatnonzero(self._histogram)
        return TensorStatistics(
            count=self._values,
            non_finite=self._non_finite,
            minimum=self._minimum,
            maximum=self._maximum,
            total=self._total,
            squares=self._squares,
            bins=bins.astype(np.uint16),
            counts=self._histogram[bins],
            channels=self._channels,
        )

    def _update_range(self, rows: NDArray[np.float32]) -> bool:
        low, high = float(rows.min()), float(rows.max())
        if not (math.isfinite(low) and math.isfinite(high)):  # a NaN anywhere makes both NaN
            return False
        self._widen(low, high)
        return True

    def _widen(self, low: float, high: float) -> None:
        # Adding 0.0 turns -0.0 into 0.0; which of them was met first must not show.
        self._minimum = min(self._minimum, low + 0.0)
        self._maximum = max(self._maximum, high + 0.0)

    def _update_with_gaps(self, rows: NDArray[np.float32]) -> None:
        finite = np.isfinite(rows)
        self._non_finite += int(rows.size - finite.sum())
        if finite.any():
            kept = rows[finite]
            self._widen(float(kept.min()), float(kept.max()))
        rows = self._sampled(rows)
        self._count_bins(rows)
        self._add_moments(np.where(np.isfinite(rows), rows, np.float32(0)))

    def _update_sampled(self, rows: NDArray[np.float32]) -> None:
        self._count_bins(rows)
        self._add_moments(rows)

    def _sampled(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        if rows.shape[1] != self._size:
            self._size = rows.shape[1]
            self._places = self._sampling.places(self.tensor, self._size)
        return rows if self._places is None else np.take(rows, self._places, axis=1)

    def _count_bins(self, rows: NDArray[np.float32]) -> None:
        halves = upper_halves(rows.reshape(-1))
        if len(halves) > _PENDING // 2:
            self._count(halves)
            return
        if self._pending is None:
            self._pending = np.empty(_PENDING, dtype=np.uint16)
        if self._put_by + len(halves) > _PENDING:
            self._count_pending()
        self._pending[self._put_by : self._put_by + len(halves)] = halves
        self._put_by += len(halves)

    def _count_pending(self) -> None:
        if self._pending is not None:
            self._count(self._pending[: self._put_by])
            self._put_by = 0

    def _count(self, halves: NDArray[np.uint16]) -> None:
        scratch = _scratch("indices", min(_COUNT_CHUNK, len(halves)), np.intp)
        for start in range(0, len(halves), _COUNT_CHUNK):
            chunk = halves[start : start + _COUNT_CHUNK]
            indices = scratch[: len(chunk)]
            np.copyto(indices, chunk)  # bincount would make this copy in new memory each time
            counts = np.bincount(indices)
            self._histogram[: len(counts)] += counts

    def _add_moments(self, rows: NDArray[np.float32]) -> None:
        totals, squares = row_sums(rows)
        self._total += to_units(totals, SUM_UNIT)
        self._squares += to_units(squares, SQUARE_UNIT)

    def _update_channels(self, values: NDArray[np.float32]) -> None:
        if values.ndim < 2:
            raise CalibrationError(
                f"Tensor '{self.tensor}' has no channels.",
                found=f"shape {list(values.shape)}",
                expected="two axes or more, the second of which counts channels",
                next_step="leave it out of the tensors with statistics per channel",
            )
        seen = _observe_channels(np.ascontiguousarray(values))
        self._channels = seen if self._channels is None else self._channels.merge(seen)


def row_sums(rows: NDArray[np.float32]) -> tuple[list[float], list[float]]:
    """Return sum and sum of squares of every row, in float64.

    The order of the additions depends on the length of the rows alone, so that a row gives the same bits in any batch.

    Args:
        rows: float32 of shape (N, M), contiguous, finite.
    """
    if rows.shape[1] < _SHORT_ROW:
        return _short_row_sums(rows)
    totals, squares = [], []
    for row in rows:
        total = square = 0.0
        for start in range(0, len(row), _WIDEN_CHUNK):
            part = row[start : start + _WIDEN_CHUNK]
            wide = _scratch("widened", len(part), np.float64)
            np.copyto(wide, part)
            for begin in range(0, len(wide), _DOT_CHUNK):
                piece = wide[begin : begin + _DOT_CHUNK]
                total += float(np.dot(piece, _ONES[: len(piece)]))  # twice as fast as a sum
                square += float(np.dot(piece, piece))
        totals.append(total)
        squares.append(square)
    return totals, squares


def _short_row_sums(rows: NDArray[np.float32]) -> tuple[list[float], list[float]]:
    totals: list[float] = []
    squares: list[float] = []
    height = _WIDEN_CHUNK // _SHORT_ROW
    for top in range(0, len(rows), height):
        wide = rows[top : top + height].astype(np.float64)
        totals += np.add.reduce(wide, axis=1).tolist()
        squares += np.einsum("ij,ij->i", wide, wide).tolist()
    return totals, squares


def _observe_channels(values: NDArray[np.float32]) -> ChannelStatistics:
    images, channels = values.shape[:2]
    rows = values.reshape(images, channels, math.prod(values.shape[2:]))
    finite = np.isfinite(rows)
    clean = rows if finite.all() else np.where(finite, rows, np.float32(0))
    totals, squares = row_sums(clean.reshape(images * channels, rows.shape[2]))
    return ChannelStatistics(
        minimum=np.where(finite, rows, np.float32(np.inf)).min(axis=(0, 2), initial=np.inf) + np.float32(0),
        maximum=np.where(finite, rows, np.float32(-np.inf)).max(axis=(0, 2), initial=-np.inf) + np.float32(0),
        count=finite.sum(axis=(0, 2), dtype=np.int64),
        sums=tuple(to_units(totals[channel::channels], SUM_UNIT) for channel in range(channels)),
        squares=tuple(to_units(squares[channel::channels], SQUARE_UNIT) for channel in range(channels)),
    )


_SCRATCH = threading.local()
_ONES = np.ones(_DOT_CHUNK)


def _scratch(role: str, size: int, dtype: type) -> NDArray:  # type: ignore[type-arg]
    kept = getattr(_SCRATCH, role, None)
    if kept is None or len(kept) < size:
        kept = np.empty(size, dtype=dtype)
        setattr(_SCRATCH, role, kept)
    return kept[:size]
