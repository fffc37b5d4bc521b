from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linglos_deploy.profiling.statistics import (
    FEWEST_PROCESSES,
    Rounds,
    compare,
    count_outliers,
    interval,
    log_ratios,
    processes_needed,
    summarize,
)
from linglos_deploy.reports.profile import Finding, Outliers, Ratio, runs_needed

ROUNDS, RUNS = 4, 8
milliseconds = st.floats(0.01, 1000, allow_nan=False)


@st.composite
def some_processes(draw: st.DrawFn) -> list[list[list[float]]]:
    count, rounds = draw(st.integers(1, 7)), draw(st.integers(1, 3))
    return draw(
        st.lists(
            st.lists(st.lists(milliseconds, min_size=1, max_size=5), min_size=rounds, max_size=rounds),
            min_size=count,
            max_size=count,
        )
    )


def ratio(candidate: list[Rounds], baseline: list[Rounds], *, confidence: float = 0.95, least: float = 0.01) -> Ratio:
    return compare(candidate, baseline, label="baseline", confidence=confidence, min_effect=least)


def blocks(generator: np.random.Generator, count: int, *, factor: float = 1.0, spread: float = 0.01) -> list[Rounds]:
    """Return processes that differ by chance, each of four rounds of eight runs."""
    offsets = np.exp(generator.normal(0, spread, (count, 1, 1)))
    return list(factor * 10 * offsets * np.exp(generator.normal(0, 0.03, (count, ROUNDS, RUNS))))


@given(some_processes())
@settings(max_examples=50, deadline=None)
def test_a_summary_keeps_its_numbers_in_order(processes: list[list[list[float]]]) -> None:
    found = summarize(processes)
    assert found.runs == sum(len(samples) for rounds in processes for samples in rounds)
    assert found.minimum <= found.p50 <= found.maximum
    assert found.minimum <= found.mean * (1 + 1e-9)
    assert found.mean <= found.maximum * (1 + 1e-9)
    assert len(found.round_medians) == sum(map(len, processes))
    assert found.processes == len(processes)
    assert (found.low is None) == (len(processes) < FEWEST_PROCESSES)


def test_a_summary_of_known_numbers() -> None:
    found = summarize([[[1.0, 2.0, 3.0], [4.0]]])
    assert (found.mean, found.p50, found.minimum, found.maximum) == (2.5, 2.5, 1.0, 4.0)
    assert found.variation == pytest.approx(np.std([1, 2, 3, 4]) / 2.5)
    assert found.round_medians == (2.0, 4.0)


def test_percentiles_are_given_from_as_many_runs_as_they_need() -> None:
    for count, p90, p99 in ((138, False, False), (139, True, False), (1521, True, False), (1522, True, True)):
        found = summarize([[list(np.linspace(1, 2, count))]])
        assert (found.p90 is not None, found.p99 is not None) == (p90, p99)
    assert (runs_needed(0.9), runs_needed(0.99)) == (139, 1522)


@pytest.mark.parametrize("quantile", [0.9, 0.99])
def test_so_many_runs_place_a_percentile_within_half_of_what_lies_beyond_it(quantile: float) -> None:
    beyond = np.random.default_rng(0).binomial(runs_needed(quantile), 1 - quantile, 20_000) / runs_needed(quantile)
    within = (abs(beyond - (1 - quantile)) <= 0.5 * (1 - quantile)).mean()
    assert 0.93 <= within <= 0.97


def test_outliers_are_counted_by_the_fences_of_their_own_process() -> None:
    quiet = [10.0] * 4 + [11.0] * 4 + [12.0] * 4  # quartiles 10 and 12: fences at 7, 4 and 15, 18
    assert count_outliers([[[*quiet]], [[100 + value for value in quiet]]]) == Outliers()
    assert count_outliers([[[*quiet, *quiet, 3.0, 6.0, 16.0, 19.0]]]) == Outliers(1, 1, 1, 1)


@given(some_processes())
@settings(max_examples=20, deadline=None)
def test_a_candidate_does_not_differ_from_itself(processes: list[list[list[float]]]) -> None:
    found = ratio(processes, processes)
    assert found.value == 1
    few = len(processes) < FEWEST_PROCESSES
    assert found.finding is (Finding.CANNOT_TELL if few else Finding.NO_DIFFERENCE)
    assert (found.low, found.high) == ((None, None) if few else (1.0, 1.0))


@given(some_processes(), st.floats(0.1, 10))
@settings(max_examples=20, deadline=None)
def test_ratios_scale_with_the_candidate(processes: list[list[list[float]]], factor: float) -> None:
    scaled = [[[value * factor for value in samples] for samples in rounds] for rounds in processes]
    assert ratio(scaled, processes).value == pytest.approx(factor)


def test_an_interval_from_too_few_processes_is_refused_and_no_difference_claimed() -> None:
    generator = np.random.default_rng(1)
    few = ratio(blocks(generator, FEWEST_PROCESSES - 1, factor=2), blocks(generator, FEWEST_PROCESSES - 1))
    assert (few.low, few.high, few.finding, few.blocks) == (None, None, Finding.CANNOT_TELL, 4)
    enough = ratio(blocks(generator, FEWEST_PROCESSES, factor=2), blocks(generator, FEWEST_PROCESSES))
    assert enough.finding is Finding.SLOWER


def test_a_difference_needs_an_interval_without_one_and_a_size_that_matters() -> None:
    generator = np.random.default_rng(2)
    baseline = blocks(generator, 6)
    exactly = [[[1.005 * value for value in samples] for samples in rounds] for rounds in baseline]
    assert ratio(exactly, baseline).finding is Finding.NO_DIFFERENCE  # significant, but only half a percent
    assert ratio(exactly, baseline, least=0.001).finding is Finding.SLOWER
    assert ratio(baseline, exactly, least=0.001).finding is Finding.FASTER
    sides = blocks(generator, 6, factor=1.03, spread=0.1), blocks(generator, 6, spread=0.1)
    for one, other in (sides, sides[::-1]):  # of a size that matters in both directions, but the interval contains 1
        assert abs(ratio(one, other).value - 1) > 0.01
        assert ratio(one, other).finding is Finding.NO_DIFFERENCE


def test_drift_that_hits_both_sides_alike_does_not_widen_the_interval() -> None:
    generator = np.random.default_rng(3)
    drift = np.linspace(1, 3, 6 * ROUNDS).reshape(6, ROUNDS, 1)
    base = generator.normal(10, 0.05, (6, ROUNDS, RUNS))
    found = ratio(list(1.5 * base * drift), list(base * drift))
    assert found.low is not None
    assert found.high is not None
    assert 1.49 < found.low <= found.high < 1.51


def test_a_burst_into_one_round_of_a_block_does_not_move_its_ratio() -> None:
    generator = np.random.default_rng(4)
    base = generator.normal(10, 0.05, (6, ROUNDS, RUNS))
    hit = base.copy()
    hit[:, 2] *= 3
    assert log_ratios(list(hit), list(base)) == pytest.approx(0, abs=0.02)


def test_more_confidence_gives_a_wider_interval() -> None:
    generator = np.random.default_rng(5)
    sides = blocks(generator, 6), blocks(generator, 6)
    narrow, wide = (ratio(*sides, confidence=confidence) for confidence in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high  # type: ignore[operator]


@pytest.mark.parametrize("spread", [0.002, 0.02, 0.05])
def test_so_many_processes_reach_the_precision_that_was_aimed_at(spread: float) -> None:
    """Student's half width with as many values of exactly this spread is below the target, and above it with fewer."""

    def half_width(count: int) -> float:
        values = np.tile([-1.0, 1.0], count)[:count]
        found = interval(spread * (values - values.mean()) / values.std(ddof=1), 0.95)
        assert found is not None
        return found.half_width

    pilot = spread * np.array([-1, 1, -1, 1, -1, 1]) / np.std([-1, 1, -1, 1, -1, 1], ddof=1)
    needed = processes_needed(pilot, target=0.02, confidence=0.95, most=1000)
    assert half_width(needed) <= math.log(1.02)
    assert needed == 6 or half_width(needed - 1) > math.log(1.02)
    assert processes_needed(pilot, target=0.02, confidence=0.95, most=6) == 6


Noise = Callable[[np.random.Generator, int], np.ndarray]
"""Makes times of two candidates: 2 x blocks x rounds x runs, in the order in which they would be timed."""


def independent(generator: np.random.Generator, count: int) -> np.ndarray:
    return np.exp(generator.normal(0, 0.03, (2, count, ROUNDS, RUNS)))


def offset_of_a_process(generator: np.random.Generator, count: int) -> np.ndarray:
    return independent(generator, count) * np.exp(generator.normal(0, 0.01, (2, count, 1, 1)))


def drift_of_the_machine(generator: np.random.Generator, count: int) -> np.ndarray:
    return independent(generator, count) * (1 + 0.3 * in_turns(generator, np.linspace(0, 1, 2 * count * ROUNDS * RUNS)))


def two_modes_of_runs(generator: np.random.Generator, count: int) -> np.ndarray:
    return independent(generator, count) * np.where(generator.random((2, count, ROUNDS, RUNS)) < 0.4, 1.3, 1.0)


def two_modes_of_processes(generator: np.random.Generator, count: int) -> np.ndarray:
    return independent(generator, count) * np.where(generator.random((2, count, 1, 1)) < 0.4, 1.1, 1.0)


def heavy_tail(generator: np.random.Generator, count: int) -> np.ndarray:
    return independent(generator, count) * (1 + 0.05 * generator.pareto(1.5, (2, count, ROUNDS, RUNS)))


def autocorrelated(generator: np.random.Generator, count: int) -> np.ndarray:
    from scipy import signal

    steps = signal.lfilter([1], [1, -0.95], generator.normal(0, 0.02, 2 * count * ROUNDS * RUNS + 100))[100:]
    return independent(generator, count) * np.exp(in_turns(generator, steps))


def bursts_of_a_neighbour(generator: np.random.Generator, count: int) -> np.ndarray:
    busy, now = np.ones(2 * count * ROUNDS * RUNS), 0
    while now < busy.size:
        now += int(generator.exponential(100))
        length = int(generator.exponential(30))
        busy[now : now + length] = 1.5
        now += length
    return independent(generator, count) * in_turns(generator, busy)


def in_turns(generator: np.random.Generator, timeline: np.ndarray) -> np.ndarray:
    """Deal out what happened over time to two candidates that take turns in an order drawn by lot."""
    turns = timeline.reshape(-1, 2, RUNS)
    first = generator.integers(0, 2, len(turns))
    sides = np.stack([turns[np.arange(len(turns)), first], turns[np.arange(len(turns)), 1 - first]])
    return sides.reshape(2, -1, ROUNDS, RUNS)


NOISES = [
    independent,
    offset_of_a_process,
    drift_of_the_machine,
    two_modes_of_runs,
    two_modes_of_processes,
    heavy_tail,
    autocorrelated,
    bursts_of_a_neighbour,
]


def covered(noise: Noise, *, trials: int, most: int) -> tuple[float, float]:
    """Return how often the interval held the true ratio: after the first blocks, and after as many as were needed."""
    generator, true = np.random.default_rng(6), 1.03
    held = np.zeros(2)
    for _ in range(trials):
        times = noise(generator, most)
        candidate, baseline = list(true * times[0]), list(times[1])
        needed = processes_needed(log_ratios(candidate[:6], baseline[:6]), target=0.02, confidence=0.95, most=most)
        for place, count in enumerate((6, needed)):
            found = ratio(candidate[:count], baseline[:count])
            assert found.low is not None
            assert found.high is not None
            held[place] += found.low <= true <= found.high
    return held[0] / trials, held[1] / trials


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.__name__)
def test_the_interval_holds_the_true_ratio_as_often_as_it_says(noise: Noise) -> None:
    """With 120 trials, chance stays above 0.88 in 999 of 1000 cases; a seed makes it the same chance every time."""
    first, last = covered(noise, trials=120, most=20)
    assert first >= 0.88
    assert last >= 0.88


@pytest.mark.slow
@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.__name__)
def test_the_interval_holds_the_true_ratio_as_often_as_it_says_in_many_trials(noise: Noise) -> None:
    first, last = covered(noise, trials=3000, most=50)
    assert first >= 0.93
    assert last >= 0.925


def test_single_runs_as_units_would_hold_it_far_too_seldom() -> None:
    """What the interval over processes is for: Student's over runs knows nothing of what a process has."""
    generator, held = np.random.default_rng(7), 0
    for _ in range(100):
        times = offset_of_a_process(generator, 6)
        found = interval(np.log(times[0] / times[1]).ravel(), 0.95)
        assert found is not None
        held += found.low <= 0 <= found.high
    assert held < 85
