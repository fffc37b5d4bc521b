from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linglos_deploy.profiling.statistics import ratio_of_medians, summarize

times = st.floats(0.01, 1000, allow_nan=False)
rounds = st.lists(st.lists(times, min_size=1, max_size=8), min_size=1, max_size=5)


def ratio(candidate, baseline, *, seed=0, resamples=200, confidence=0.95):  # type: ignore[no-untyped-def]
    return ratio_of_medians(candidate, baseline, label="b", confidence=confidence, resamples=resamples, seed=seed)


@given(rounds)
def test_a_summary_is_ordered_and_counts_every_run(samples: list[list[float]]) -> None:
    found = summarize(samples)
    assert found.runs == sum(map(len, samples))
    assert found.minimum <= found.p50 <= found.p90 <= found.p99 <= found.maximum
    assert found.minimum <= found.mean * (1 + 1e-9)
    assert found.mean <= found.maximum * (1 + 1e-9)
    assert len(found.round_medians) == len(samples)


def test_a_summary_of_known_numbers() -> None:
    found = summarize([[1.0, 2.0, 3.0], [4.0]])
    assert (found.mean, found.p50, found.minimum, found.maximum) == (2.5, 2.5, 1.0, 4.0)
    assert found.variation == pytest.approx(np.std([1, 2, 3, 4]) / 2.5)
    assert found.round_medians == (2.0, 4.0)


@given(rounds)
@settings(max_examples=20, deadline=None)
def test_the_interval_encloses_one_for_a_candidate_compared_with_itself(samples: list[list[float]]) -> None:
    found = ratio(samples, samples, resamples=50)
    assert found.value == 1
    assert found.low <= 1.0 <= found.high


@given(rounds, st.floats(0.1, 10))
@settings(max_examples=20, deadline=None)
def test_ratios_scale_with_the_candidate(samples: list[list[float]], factor: float) -> None:
    scaled = [[value * factor for value in values] for values in samples]
    assert ratio(scaled, samples, resamples=20).value == pytest.approx(factor)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another_one() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.gamma(2, 1, (4, 20)), generator.gamma(2, 1, (4, 20))
    assert ratio(a, b) == ratio(a, b)
    assert ratio(a, b) != ratio(a, b, seed=1)


def test_drift_that_hits_both_sides_alike_does_not_widen_the_interval() -> None:
    generator = np.random.default_rng(2)
    drift = np.array([1.0, 1.3, 1.7, 2.2, 2.8, 3.5])[:, None]
    base = generator.normal(10, 0.05, (6, 30))
    found = ratio(1.5 * base * drift, base * drift, resamples=500)
    assert 1.4 < found.low <= found.high < 1.6


def test_the_interval_covers_the_true_ratio_about_as_often_as_it_says_although_rounds_differ() -> None:
    generator = np.random.default_rng(3)
    hits = 0
    for trial in range(60):
        # Rounds differ by chance: what a bootstrap of single runs underestimates.
        sides = [scale * generator.normal(1, 0.05, (8, 1)) * generator.normal(1, 0.02, (8, 15)) for scale in (1.2, 1.0)]
        found = ratio(*sides, seed=trial, resamples=100)
        hits += found.low <= 1.2 <= found.high
    assert hits >= 50


def test_more_confidence_gives_a_wider_interval() -> None:
    generator = np.random.default_rng(4)
    a, b = generator.gamma(2, 1, (4, 20)), generator.gamma(2, 1, (4, 20))
    narrow, wide = ratio(a, b, confidence=0.5), ratio(a, b, confidence=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high
