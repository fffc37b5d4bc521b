"""How far two outputs are apart, summed up batch by batch in constant memory."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from linglos_deploy.errors import DataError
from linglos_deploy.reports.parity import OutputMetrics, WorstSample

MOST_RELATIVE = 1e9
MOST_DB = 300.0
TIE = 1e-6

Floats = npt.NDArray[np.float64]


def compare(reference: npt.ArrayLike, candidate: npt.ArrayLike) -> OutputMetrics:
    """Return the metrics of two arrays of one shape, whose first axis counts samples.

    >>> compare([[1.0, 2.0]], [[1.0, 2.0]]).cosine
    1.0
    """
    difference = Difference()
    difference.update(np.asarray(reference), np.asarray(candidate))
    return difference.metrics()


@dataclass
class Difference:
    """Running sums of one output's difference.

    Attributes:
        keep_worst: How many of the worst samples are remembered.
    """

    keep_worst: int = 5
    _samples: int = 0
    _values: int = 0
    _max_abs: float = 0.0
    _sum_abs: float = 0.0
    _largest: float = 0.0
    _dot: float = 0.0
    _square_reference: float = 0.0
    _square_candidate: float = 0.0
    _square_difference: float = 0.0
    _worst_cosine: float = 1.0
    _ranked: int = 0
    _agreed: int = 0
    _mismatched: int = 0
    _nonfinite_reference: int = 0
    _worst: list[tuple[float, float, int, str]] = field(default_factory=list)

    def update(
        self, reference: npt.NDArray[np.generic], candidate: npt.NDArray[np.generic], ids: Sequence[str] = ()
    ) -> None:
        """Take in one batch.

        Args:
            reference: Numbers of any type, N x ...
            candidate: Numbers of any type, the same shape.
            ids: Names of the N samples; their positions if empty.

        Raises:
            DataError: The shapes differ, or there are no samples to tell apart.
        """
        if reference.shape != candidate.shape or reference.ndim == 0:
            raise DataError(
                "Two outputs cannot be compared.",
                found=f"shapes {list(reference.shape)} and {list(candidate.shape)}",
                expected="the same shape, samples first",
            )
        count = len(reference)
        wanted, found = (_rows(array) for array in (reference, candidate))
        self._count_top1(reference.ndim, wanted, found)
        wanted, found = self._drop_nonfinite(wanted, found)
        if wanted.size:
            self._add(wanted, found)
        cosines = _cosines(wanted, found)
        furthest = np.abs(found - wanted).max(axis=1, initial=0.0)
        for row in range(count):
            self._remember(float(cosines[row]), float(furthest[row]), ids[row] if ids else str(self._samples + row))
        self._samples += count
        self._values += int(reference.size)
        self._worst_cosine = min(self._worst_cosine, float(cosines.min(initial=1.0)))

    def metrics(self) -> OutputMetrics:
        """Return what was found so far."""
        return OutputMetrics(
            samples=self._samples,
            values=self._values,
            max_abs=self._max_abs,
            max_relative=_ratio(self._max_abs, self._largest),
            mean_abs=self._sum_abs / max(self._values, 1),
            cosine=_cosine(self._dot, self._square_reference, self._square_candidate),
            worst_cosine=self._worst_cosine,
            sqnr_db=_decibels(self._square_reference, self._square_difference),
            top1_agreement=self._agreed / self._ranked if self._ranked else None,
            mismatched_nonfinite=self._mismatched,
            nonfinite_reference=self._nonfinite_reference,
        )

    def worst(self) -> tuple[WorstSample, ...]:
        """Return the samples with the smallest cosines, worst first."""
        ranked = sorted(self._worst, key=lambda entry: (-entry[0], -entry[1], -entry[2]))
        return tuple(WorstSample(id=name, cosine=-negative, max_abs=furthest) for negative, furthest, _, name in ranked)

    def _count_top1(self, axes: int, wanted: Floats, found: Floats) -> None:
        if axes != 2 or wanted.shape[1] < 2:
            return
        self._ranked += len(wanted)
        readable = ~(np.isnan(wanted).any(axis=1) | np.isnan(found).any(axis=1))
        wanted, found = wanted[readable], found[readable]
        chosen = np.take_along_axis(wanted, found.argmax(axis=1)[:, None], axis=1)[:, 0]
        tie = TIE * np.abs(wanted).max(axis=1, initial=0.0)
        with np.errstate(invalid="ignore"):  # inf - inf
            self._agreed += int(((chosen == wanted.max(axis=1)) | (wanted.max(axis=1) - chosen <= tie)).sum())

    def _drop_nonfinite(self, wanted: Floats, found: Floats) -> tuple[Floats, Floats]:
        finite = np.isfinite(wanted) & np.isfinite(found)
        if finite.all():
            return wanted, found
        same = (wanted == found) | (np.isnan(wanted) & np.isnan(found))
        self._mismatched += int((~finite & ~same).sum())
        self._nonfinite_reference += int((~np.isfinite(wanted)).sum())
        return np.where(finite, wanted, 0.0), np.where(finite, found, 0.0)

    def _add(self, wanted: Floats, found: Floats) -> None:
        off = np.abs(found - wanted)
        self._max_abs = max(self._max_abs, float(off.max()))
        self._sum_abs += float(off.sum())
        self._largest = max(self._largest, float(np.abs(wanted).max()))
        self._dot += float(np.vdot(wanted, found))
        self._square_reference += float(np.vdot(wanted, wanted))
        self._square_candidate += float(np.vdot(found, found))
        self._square_difference += float(np.vdot(off, off))

    def _remember(self, cosine: float, furthest: float, name: str) -> None:
        position = self._samples
        entry = (-cosine, furthest, -position, name)
        if len(self._worst) < self.keep_worst:
            heapq.heappush(self._worst, entry)
        elif self._worst:
            heapq.heappushpop(self._worst, entry)


def _rows(array: npt.NDArray[np.generic]) -> Floats:
    return np.asarray(array, dtype=np.float64).reshape(len(array), math.prod(array.shape[1:]))


def _cosines(wanted: Floats, found: Floats) -> Floats:
    dots = np.einsum("ij,ij->i", wanted, found)
    squares = np.einsum("ij,ij->i", wanted, wanted), np.einsum("ij,ij->i", found, found)
    return np.array([_cosine(*sums) for sums in zip(dots, *squares, strict=True)], dtype=np.float64)


def _cosine(dot: float, square_a: float, square_b: float) -> float:
    if square_a == 0 or square_b == 0:
        return 1.0 if square_a == square_b else 0.0
    return float(np.clip(dot / math.sqrt(square_a * square_b), -1.0, 1.0))


def _ratio(difference: float, largest: float) -> float:
    if difference == 0:
        return 0.0
    return MOST_RELATIVE if largest <= difference / MOST_RELATIVE else difference / largest


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return MOST_DB
    if signal == 0:
        return -MOST_DB
    return float(np.clip(10 * (math.log10(signal) - math.log10(noise)), -MOST_DB, MOST_DB))
