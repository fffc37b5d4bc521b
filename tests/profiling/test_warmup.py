from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat

import pytest

from linglos_deploy.profiling.warmup import is_steady, warm_up


class Clock:
    """Time that passes only while the model runs."""

    def __init__(self, seconds: Iterator[float]) -> None:
        self.now, self.seconds = 0.0, seconds

    def run(self) -> None:
        self.now += next(self.seconds)

    def __call__(self) -> float:
        return self.now


def test_a_model_that_is_steady_from_the_start_is_warm_after_a_few_windows() -> None:
    clock = Clock(repeat(0.01))
    found = warm_up(clock.run, longest=3, clock=clock)
    assert found.steady
    assert found.seconds == pytest.approx(0.18, abs=0.04)


def test_a_model_that_gets_faster_is_warmed_until_it_does_no_more() -> None:
    falling = [0.05 * 0.97**step for step in range(40)]
    clock = Clock(chain(falling, repeat(falling[-1])))
    found = warm_up(clock.run, longest=10, clock=clock)
    assert found.steady
    assert found.runs > 35


def test_a_model_that_never_gets_steady_is_given_up_and_said_to_be_unsteady() -> None:
    clock = Clock(0.05 * 0.98**step for step in range(10_000))
    found = warm_up(clock.run, longest=1, clock=clock)
    assert not found.steady
    assert found.seconds >= 1


def test_a_model_slower_than_the_limit_runs_at_least_once() -> None:
    clock = Clock(repeat(5.0))
    found = warm_up(clock.run, longest=1, clock=clock)
    assert (found.runs, found.steady) == (1, False)


def test_steadiness_needs_windows_to_compare() -> None:
    assert not is_steady([1.0] * 5)
    assert is_steady([1.0] * 6)
    assert not is_steady([1.0, 1.0, 1.0, 0.9, 0.9, 0.9])
    assert is_steady([0.9, 0.9, 0.9, 1.0, 1.0, 1.0])  # getting slower is no warm-up
