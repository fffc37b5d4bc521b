"""How sure a metric is: resampling of examples, and McNemar's test for what is right or wrong as a whole.

Sources: Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 7, 1979 (percentile intervals);
McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12, 1947, in its
exact form: the binomial distribution of the pairs that differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from linglos_deploy.tasks.task import Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and where it lies with 95 % confidence, if other examples of the same kind had been drawn."""

    value: float
    low: float
    high: float


def resamples(count: int, *, seed: int, draws: int = 1000) -> NDArray[np.int64]:
    """Return places of examples drawn with replacement, ``draws`` x ``count``."""
    return np.random.default_rng(seed).integers(0, count, (draws, count))


def interval(metric: Metric, records: Sequence[Any], drawn: NDArray[np.int64]) -> Interval:
    """Return a metric with its percentile interval."""
    values = [metric.value(records, places) for places in drawn]
    return _interval(metric.value(records, np.arange(len(records))), values)


def change(metric: Metric, before: Sequence[Any], after: Sequence[Any], drawn: NDArray[np.int64]) -> Interval:
    """Return how much a metric changes between two models on the same examples, drawn in pairs."""
    every = np.arange(len(before))
    values = [metric.value(after, places) - metric.value(before, places) for places in drawn]
    return _interval(metric.value(after, every) - metric.value(before, every), values)


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> float:
    """Return the probability of as lopsided a change if neither model were better: exact, two-sided.

    >>> mcnemar([True] * 6, [False] * 6)
    0.03125
    """
    lost = sum(first and not second for first, second in zip(before, after, strict=True))
    won = sum(second and not first for first, second in zip(before, after, strict=True))
    total = lost + won
    tail = sum(math.comb(total, hits) for hits in range(min(lost, won) + 1))
    return float(min(1.0, 2 * tail / 2**total))


def _interval(value: float, values: Sequence[float]) -> Interval:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value, float(low), float(high))
