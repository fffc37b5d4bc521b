"""From timed runs to the numbers of a report, with intervals from the level that varies.

Runs of a process resemble each other, and so do rounds: where its memory lies makes a process a percent faster or
slower for as long as it lives. What can be counted on is the number of processes. So a process is one observation, and
the interval is Student's over processes; how many runs each of them made does not enter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.reports.profile import Finding, Latency, Outliers, Ratio, runs_needed

if TYPE_CHECKING:
    from numpy.typing import NDArray

Rounds = Sequence[Sequence[float]]
"""Milliseconds of each timed run of one process, grouped by the round in which it was timed."""

FEWEST_PROCESSES = 5
"""Below this Student's interval is so wide, and rests so much on normality, that none is given."""


def summarize(processes: Sequence[Rounds], *, confidence: float = 0.95) -> Latency:
    """Summarize all timed runs of a row.

    Args:
        processes: Timed runs of each process.
        confidence: Of the interval of the median.
    """
    values = np.concatenate([np.asarray(samples, dtype=np.float64) for rounds in processes for samples in rounds])
    p50, p90, p99 = (float(value) for value in np.percentile(values, (50, 90, 99)))
    mean = float(values.mean())
    between = interval(log_medians(processes), confidence)
    return Latency(
        runs=values.size,
        mean=mean,
        minimum=float(values.min()),
        p50=p50,
        p90=p90 if values.size >= runs_needed(0.9) else None,
        p99=p99 if values.size >= runs_needed(0.99) else None,
        maximum=float(values.max()),
        variation=float(values.std() / mean),
        round_medians=tuple(float(np.median(samples)) for rounds in processes for samples in rounds),
        processes=len(processes),
        low=math.exp(between.low) if between else None,
        high=math.exp(between.high) if between else None,
        outliers=count_outliers(processes),
    )


def compare(
    candidate: Sequence[Rounds], baseline: Sequence[Rounds], *, label: str, confidence: float, min_effect: float
) -> Ratio:
    """Compare two candidates that were measured in the same blocks.

    A difference needs both: an interval without 1, and a size that matters.

    Args:
        candidate: Timed runs of each process.
        baseline: Those of the process that took turns with it, block by block.
        label: What the report calls the baseline.
        confidence: Of the interval.
        min_effect: Smallest relative difference that counts as one.
    """
    logs = log_ratios(candidate, baseline)
    value, found = math.exp(float(logs.mean())), interval(logs, confidence)
    if found is None:
        return Ratio(label, value, None, None, confidence, Finding.CANNOT_TELL, logs.size)
    low, high = math.exp(found.low), math.exp(found.high)
    finding = Finding.NO_DIFFERENCE
    if high < 1 and value <= 1 - min_effect:
        finding = Finding.FASTER
    elif low > 1 and value >= 1 + min_effect:
        finding = Finding.SLOWER
    return Ratio(label, value, low, high, confidence, finding, logs.size)


@dataclass(frozen=True, slots=True)
class Change:
    """How many times the latency of before, with its interval."""

    value: float
    low: float
    high: float


def ratio_of_reports(new: Sequence[Rounds], old: Sequence[Rounds], *, confidence: float) -> Change | None:
    """Return the ratio of latencies that were measured at different times, with Welch's interval over processes.

    Args:
        new: Timed runs of each process.
        old: Those of the processes before; not as many, and not next to them.
        confidence: Of the interval.

    Returns:
        ``None`` where one of them has fewer than :data:`FEWEST_PROCESSES`.
    """
    if min(len(new), len(old)) < FEWEST_PROCESSES:
        return None
    from scipy import stats

    above, below = log_medians(new), log_medians(old)
    difference = float(above.mean() - below.mean())
    if np.ptp(above) == np.ptp(below) == 0:
        return Change(*[math.exp(difference)] * 3)
    found = stats.ttest_ind(above, below, equal_var=False).confidence_interval(confidence)
    return Change(math.exp(difference), math.exp(float(found.low)), math.exp(float(found.high)))


def log_ratios(candidate: Sequence[Rounds], baseline: Sequence[Rounds]) -> NDArray[np.float64]:
    """Return one number a block: the logarithm of how many times slower the candidate was.

    Each round gives a ratio of medians of runs that were timed next to each other; drift of the machine cancels in it.
    The median over the rounds of a block leaves out a round into which a neighbour burst.
    """
    return np.array(
        [
            np.median([math.log(np.median(one) / np.median(other)) for one, other in zip(above, below, strict=True)])
            for above, below in zip(candidate, baseline, strict=True)
        ]
    )


def log_medians(processes: Sequence[Rounds]) -> NDArray[np.float64]:
    """Return the logarithm of the median of each process."""
    return np.array(
        [math.log(np.median(np.concatenate([np.asarray(part) for part in rounds]))) for rounds in processes]
    )


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of its width."""
        return (self.high - self.low) / 2


def interval(values: NDArray[np.float64], confidence: float) -> Interval | None:
    """Return Student's interval of the mean; ``None`` from fewer than :data:`FEWEST_PROCESSES` values."""
    if values.size < FEWEST_PROCESSES:
        return None
    if np.ptp(values) == 0:  # no spread, no question
        return Interval(float(values[0]), float(values[0]))
    from scipy import stats

    low, high = stats.t.interval(confidence, values.size - 1, loc=values.mean(), scale=stats.sem(values))
    return Interval(float(low), float(high))


def processes_needed(logs: NDArray[np.float64], *, target: float, confidence: float, most: int) -> int:
    """Return how many processes give an interval of a half width of ``target``, judged by those there are.

    This is asked once, after a first few processes (Stein's two-stage procedure, Annals of Mathematical Statistics 16,
    1945). Asking after every further process would stop where the spread happens to look small.

    Args:
        logs: One logarithm for each process so far.
        target: Relative half width.
        confidence: Of the interval.
        most: The answer if there is no smaller one.
    """
    from scipy import stats

    spread, wanted = float(logs.std(ddof=1)), math.log1p(target)
    counts = np.arange(max(FEWEST_PROCESSES, logs.size), most + 1)
    half_widths = stats.t.ppf((1 + confidence) / 2, counts - 1) * spread / np.sqrt(counts)
    enough = counts[half_widths <= wanted]
    return int(enough[0]) if enough.size else most


def count_outliers(processes: Sequence[Rounds]) -> Outliers:
    """Count the runs beyond Tukey's fences, which each process has for itself."""
    counts = np.zeros(4, dtype=np.int64)
    for rounds in processes:
        values = np.concatenate([np.asarray(samples, dtype=np.float64) for samples in rounds])
        first, third = np.percentile(values, (25, 75))
        outer, inner = 3 * (third - first), 1.5 * (third - first)
        counts += (
            (values < first - outer).sum(),
            ((values < first - inner) & (values >= first - outer)).sum(),
            ((values > third + inner) & (values <= third + outer)).sum(),
            (values > third + outer).sum(),
        )
    return Outliers(*(int(count) for count in counts))
