"""Counts values by their bins, chunk by chunk, and keeps only the part of the bins that is occupied."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.calibration.bins import BIN_COUNT

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

_COUNT_CHUNK = 1 << 18
"""Values counted at once: 2 MiB of scratch memory per thread."""

_PENDING = 1 << 16
"""Values of a small tensor that are put by until it is worth going through 65 536 bins: 128 KiB per counter."""

_PAGE = 128
"""Bins kept together: those of one sign and exponent. Values of a tensor occupy about a tenth of the pages."""


class BinCounter:
    """A histogram that grows. Not for use by two threads at once.

    Args:
        bins: Occupied bins of what was seen before, rising.
        counts: Values in each of them.
    """

    def __init__(self, bins: NDArray[np.uint16] | None = None, counts: NDArray[np.int64] | None = None) -> None:
        self._page_of = np.full(BIN_COUNT // _PAGE, -1, dtype=np.intp)
        self._pages = np.zeros((0, _PAGE), dtype=np.int64)
        self._pending: NDArray[np.uint16] | None = None
        self._put_by = 0
        if bins is not None and counts is not None and len(bins):
            dense = np.zeros(BIN_COUNT, dtype=np.int64)
            dense[bins] = counts
            self._add_counts(dense)

    def add(self, halves: NDArray[np.uint16]) -> None:
        """Take in bins of values, uint16 of one axis; see :func:`~.bins.upper_halves`."""
        if len(halves) > _PENDING:
            self._count(halves)
            return
        if self._pending is None:
            self._pending = np.empty(_PENDING, dtype=np.uint16)
        if self._put_by + len(halves) > _PENDING:
            self._count_pending()
        self._pending[self._put_by : self._put_by + len(halves)] = halves
        self._put_by += len(halves)

    def histogram(self) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
        """Return the occupied bins, rising, and the values in each."""
        self._count_pending()
        occupied = np.flatnonzero(self._page_of >= 0)
        counts = self._pages[self._page_of[occupied]].reshape(-1)
        bins = (occupied[:, None] * _PAGE + np.arange(_PAGE)).reshape(-1)
        return bins[counts > 0].astype(np.uint16), counts[counts > 0]

    def _count_pending(self) -> None:
        if self._pending is not None and self._put_by:
            self._count(self._pending[: self._put_by])
            self._put_by = 0

    def _count(self, halves: NDArray[np.uint16]) -> None:
        indices = scratch("indices", min(_COUNT_CHUNK, len(halves)), np.intp)
        for start in range(0, len(halves), _COUNT_CHUNK):
            chunk = halves[start : start + _COUNT_CHUNK]
            part = indices[: len(chunk)]
            np.copyto(part, chunk)  # bincount would make this copy in new memory each time
            self._add_counts(np.bincount(part, minlength=BIN_COUNT))

    def _add_counts(self, counts: NDArray[np.int64]) -> None:
        """Add counts of all 65 536 bins."""
        pages = counts.reshape(-1, _PAGE)
        touched = np.flatnonzero(pages.any(axis=1))
        new = touched[self._page_of[touched] < 0]
        if len(new):
            self._page_of[new] = np.arange(len(self._pages), len(self._pages) + len(new))
            self._pages = np.concatenate([self._pages, np.zeros((len(new), _PAGE), dtype=np.int64)])
        self._pages[self._page_of[touched]] += pages[touched]


_SCRATCH = threading.local()


def scratch(role: str, size: int, dtype: DTypeLike) -> NDArray:  # type: ignore[type-arg]
    """Return memory of this thread that is used again: the last call's contents of the same role are lost."""
    kept = getattr(_SCRATCH, role, None)
    if kept is None or len(kept) < size:
        kept = np.empty(size, dtype=dtype)
        setattr(_SCRATCH, role, kept)
    return kept[:size]
