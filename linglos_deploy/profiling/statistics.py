"""From timed runs to the numbers of a report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from linglos_deploy.reports.profile import Latency, Ratio

Rounds = Sequence[Sequence[float]]
"""Milliseconds of each timed run, grouped by the round in which it was timed."""


def summarize(rounds: Rounds) -> Latency:
    """Summarize all timed runs of a row."""
    values = np.concatenate([np.asarray(samples, dtype=np.float64) for samples in rounds])
    p50, p90, p99 = (float(value) for value in np.percentile(values, (50, 90, 99)))
    mean = float(values.mean())
    return Latency(
        runs=values.size,
        mean=mean,
        minimum=float(values.min()),
        p50=p50,
        p90=p90,
        p99=p99,
        maximum=float(values.max()),
        variation=float(values.std() / mean),
        round_medians=tuple(float(np.median(samples)) for samples in rounds),
    )


def ratio_of_medians(
    candidate: Rounds, baseline: Rounds, *, label: str, confidence: float, resamples: int, seed: int
) -> Ratio:
    """Return the ratio of the median latencies with a percentile bootstrap interval.

    Runs next to each other in time resemble each other, so resampling single runs would give intervals that are too
    narrow. Each resample therefore first draws whole rounds, the same ones for both sides because they were timed
    next to each other, and then runs within them (a two-level bootstrap; Davison and Hinkley, Bootstrap Methods and
    their Application, section 3.8).

    Args:
        candidate: Timed runs of the candidate.
        baseline: Timed runs of the baseline; as many rounds.
        label: What the report calls the baseline.
        confidence: Of the interval.
        resamples: How many.
        seed: Of the resampling; the same seed gives the same interval.
    """
    sides = tuple([np.asarray(samples) for samples in side] for side in (candidate, baseline))
    generator = np.random.default_rng(seed)
    ratios = np.empty(resamples)
    for index in range(resamples):
        drawn = generator.integers(0, len(baseline), len(baseline))
        above, below = (np.median(_resample(side, drawn, generator)) for side in sides)
        ratios[index] = above / below
    tail = (1 - confidence) / 2
    low, high = np.quantile(ratios, (tail, 1 - tail))
    above, below = (np.median(np.concatenate(side)) for side in sides)
    return Ratio(baseline=label, value=float(above / below), low=float(low), high=float(high), confidence=confidence)


def _resample(rounds: Sequence[np.ndarray], drawn: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return np.concatenate(
        [rounds[index][generator.integers(0, rounds[index].size, rounds[index].size)] for index in drawn]
    )
