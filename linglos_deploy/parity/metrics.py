"""How far two outputs are apart, summed up batch by batch in constant memory."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from linglos_deploy.errors import DataError
from linglos_deploy.parity.channels import ChannelSums
from linglos_deploy.parity.classes import ClassSums, Picture
from linglos_deploy.reports.parity import ERROR_QUANTILES, ClassAgreement, Flip, OutputMetrics, WorstSample

MOST_RELATIVE = 1e9
MOST_DB = 300.0
EQUAL_DB = 150.0
"""SQNR from which a sample counts as equal, where a mean over samples is taken: float32 itself ends there."""
_BINS_PER_OCTAVE = 16
_OCTAVES = 400
"""Absolute errors from 2**-300 to 2**100 are told apart, 16 to an octave: 4.4 % each."""

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
        detailed: Whether classes, channels and quantiles are looked at too; inner tensors go without.
        indices: Whether the numbers are class indices, so that the share of equal ones is what counts.
    """

    keep_worst: int = 5
    detailed: bool = True
    indices: bool = False
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
    _equal: int = 0
    _mismatched: int = 0
    _nonfinite_reference: int = 0
    _worst: list[tuple[float, float, int, str]] = field(default_factory=list)
    _sum_reference: float = 0.0
    _sum_db: float = 0.0
    _sum_square_db: float = 0.0
    _error_counts: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(_OCTAVES * _BINS_PER_OCTAVE + 1, np.int64)
    )
    _channels: ChannelSums = field(default_factory=ChannelSums)
    _classes: ClassSums = field(default_factory=ClassSums)

    def update(
        self,
        reference: npt.NDArray[np.generic],
        candidate: npt.NDArray[np.generic],
        ids: Sequence[str] = (),
        picture: Picture | None = None,
    ) -> None:
        """Take in one batch.

        Args:
            reference: Numbers of any type, N x ...
            candidate: Numbers of any type, the same shape.
            ids: Names of the N samples; their positions if empty.
            picture: Draws a sample whose best class changed.

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
        names = [ids[row] if ids else str(self._samples + row) for row in range(count)]
        if self.indices:
            self._equal += int((wanted == found).sum())
        elif self.detailed and reference.ndim == 2 and wanted.shape[1] > 1:
            self._classes.update(wanted, found, names, picture)
        wanted, found = self._drop_nonfinite(wanted, found)
        if self.detailed:
            self._channels.update(wanted.reshape(reference.shape), found.reshape(reference.shape))
        off = found - wanted
        sums = _Sums(*(np.einsum("ij,ij->i", *pair) for pair in _products(wanted, found, off)))
        np.abs(off, out=off)
        cosines, furthest = sums.cosines(), off.max(axis=1, initial=0.0)
        for row in range(count):
            self._remember(float(cosines[row]), float(furthest[row]), names[row])
        self._add(wanted, off, sums)
        self._samples += count
        self._values += int(reference.size)
        self._max_abs = max(self._max_abs, float(furthest.max(initial=0.0)))
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
            top1_agreement=self._equal / max(self._values, 1) if self.indices else self._classes.top1_agreement(),
            mismatched_nonfinite=self._mismatched,
            nonfinite_reference=self._nonfinite_reference,
            mean_relative=_ratio(self._sum_abs, self._sum_reference),
            variation_db=self._channels.variation_db(),
            sample_db_mean=self._sum_db / max(self._samples, 1),
            sample_db_std=self._sample_db_std(),
            top5_agreement=self._classes.top5_agreement(),
            kl_divergence=self._classes.divergence(),
            abs_quantiles=self._quantiles(),
            groups=self._channels.groups(),
            worst_channels=self._channels.worst(),
        )

    def worst(self) -> tuple[WorstSample, ...]:
        """Return the samples with the smallest cosines, worst first."""
        ranked = sorted(self._worst, key=lambda entry: (-entry[0], -entry[1], -entry[2]))
        return tuple(WorstSample(id=name, cosine=-negative, max_abs=furthest) for negative, furthest, _, name in ranked)

    def flips(self) -> tuple[Flip, ...]:
        """Return the samples whose best class is another one, those with the largest margins, largest first."""
        return self._classes.flips()

    def by_class(self) -> tuple[ClassAgreement, ...]:
        """Return what became of the samples of each class of the reference, in class order."""
        return self._classes.by_class()

    def _sample_db_std(self) -> float:
        if self._samples < 2:
            return 0.0
        mean = self._sum_db / self._samples
        return math.sqrt(max(self._sum_square_db / self._samples - mean * mean, 0.0))

    def _quantiles(self) -> tuple[float, ...]:
        reached = np.cumsum(self._error_counts)
        if not reached[-1]:
            return ()
        places = [int(np.searchsorted(reached, share * reached[-1])) for share in ERROR_QUANTILES]
        return tuple(min(2.0 ** (place / _BINS_PER_OCTAVE - 300), self._max_abs) if place else 0.0 for place in places)

    def _drop_nonfinite(self, wanted: Floats, found: Floats) -> tuple[Floats, Floats]:
        finite = np.isfinite(wanted) & np.isfinite(found)
        if finite.all():
            return wanted, found
        same = (wanted == found) | (np.isnan(wanted) & np.isnan(found))
        self._mismatched += int((~finite & ~same).sum())
        self._nonfinite_reference += int((~np.isfinite(wanted)).sum())
        return np.where(finite, wanted, 0.0), np.where(finite, found, 0.0)

    def _add(self, wanted: Floats, off: Floats, sums: _Sums) -> None:
        """Add finite values, N x ..., and the magnitudes of their differences."""
        self._dot += float(sums.products.sum())
        self._square_reference += float(sums.reference.sum())
        self._square_candidate += float(sums.candidate.sum())
        self._square_difference += float(sums.difference.sum())
        for signal, noise in zip(sums.reference, sums.difference, strict=True):
            own = min(_decibels(float(signal), float(noise)), EQUAL_DB)
            self._sum_db += own
            self._sum_square_db += own * own
        magnitudes = np.abs(wanted)
        self._largest = max(self._largest, float(magnitudes.max(initial=0.0)))
        self._sum_abs += float(off.sum())
        self._sum_reference += float(magnitudes.sum())
        if not self.detailed or not wanted.size:
            return
        with np.errstate(divide="ignore"):
            bins = np.ceil((np.log2(off) + 300) * _BINS_PER_OCTAVE)
        places = np.clip(np.nan_to_num(bins, neginf=0), 0, len(self._error_counts) - 1).astype(np.intp)
        self._error_counts += np.bincount(places.reshape(-1), minlength=len(self._error_counts))

    def _remember(self, cosine: float, furthest: float, name: str) -> None:
        position = self._samples
        entry = (-cosine, furthest, -position, name)
        if len(self._worst) < self.keep_worst:
            heapq.heappush(self._worst, entry)
        elif self._worst:
            heapq.heappushpop(self._worst, entry)


def _rows(array: npt.NDArray[np.generic]) -> Floats:
    return np.asarray(array, dtype=np.float64).reshape(len(array), math.prod(array.shape[1:]))


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums over each sample, from which everything but the extremes follows: one pass over the values for each."""

    products: Floats
    reference: Floats
    candidate: Floats
    difference: Floats

    def cosines(self) -> Floats:
        """Return the cosine of each sample."""
        rows = zip(self.products, self.reference, self.candidate, strict=True)
        return np.array([_cosine(*row) for row in rows], dtype=np.float64)


def _products(wanted: Floats, found: Floats, off: Floats) -> tuple[tuple[Floats, Floats], ...]:
    return (wanted, found), (wanted, wanted), (found, found), (off, off)


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
