"""What chance explains: three standard errors of means, two of shares."""

from __future__ import annotations

import math

import pytest

from linglos_deploy.parity.chance import mean_allowed, share_allowed


def test_means_may_differ_by_three_standard_errors_of_both_sets() -> None:
    assert mean_allowed(2.0, 100, 1.0, 25) == pytest.approx(3 * math.sqrt(4 / 100 + 1 / 25))
    assert mean_allowed(0.0, 4, 0.0, 4) == 0


def test_shares_may_differ_by_two_standard_errors_with_a_hit_and_a_miss_added() -> None:
    pooled = (90 + 45 + 1) / (100 + 50 + 2)
    expected = 2 * math.sqrt(pooled * (1 - pooled) * (1 / 100 + 1 / 50))
    assert share_allowed((0.9, 100), (0.9, 50)) == pytest.approx(expected)
    assert share_allowed((1.0, 10), (1.0, 10)) > 0
    assert share_allowed((0.0, 10), (0.0, 10)) > 0
