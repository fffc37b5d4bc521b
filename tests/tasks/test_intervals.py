"""How sure a metric is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linglos_deploy.tasks.intervals import change, interval, mcnemar, resamples
from linglos_deploy.tasks.kinds.classify import Top1

answers = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def test_an_interval_holds_the_value_and_is_as_wide_as_the_binomial_distribution_says() -> None:
    records = [True] * 300 + [False] * 100
    found = interval(Top1(), records, resamples(400, seed=0))
    assert found.value == 0.75
    deviation = math.sqrt(0.75 * 0.25 / 400)
    assert found.value - found.low == pytest.approx(1.96 * deviation, rel=0.15)
    assert found.high - found.value == pytest.approx(1.96 * deviation, rel=0.15)


def test_a_change_is_drawn_in_pairs_so_that_equal_models_differ_by_nothing() -> None:
    records = [True, False] * 50
    drawn = resamples(100, seed=1)
    assert change(Top1(), records, records, drawn).high == 0.0
    worse = change(Top1(), records, [False] * 100, drawn)
    assert worse.value == -0.5
    assert worse.low < -0.5 < worse.high < 0


@given(answers)
def test_mcnemar_is_the_binomial_test_of_the_pairs_that_differ(pairs: list[tuple[bool, bool]]) -> None:
    before, after = [first for first, _ in pairs], [second for _, second in pairs]
    lost = sum(first > second for first, second in pairs)
    won = sum(second > first for first, second in pairs)
    total = lost + won
    likely = [math.comb(total, hits) / 2**total for hits in range(total + 1)]
    expected = sum(share for share in likely if share <= likely[lost] * (1 + 1e-9))
    assert mcnemar(before, after) == pytest.approx(min(1.0, expected))
    assert mcnemar(before, after) == mcnemar(after, before)


def test_the_same_seed_draws_the_same_examples() -> None:
    assert np.array_equal(resamples(5, seed=3), resamples(5, seed=3))
    assert not np.array_equal(resamples(5, seed=3), resamples(5, seed=4))
