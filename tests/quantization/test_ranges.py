"""Which criterion chooses a range, and what the reason says of it."""

from __future__ import annotations

import numpy as np
import pytest

from linglos_deploy.calibration.groups import group_channels
from linglos_deploy.calibration.observers import GroupedAxis, observe
from linglos_deploy.calibration.statistics import TensorStatistics
from linglos_deploy.calibration.thresholds import threshold
from linglos_deploy.quantization.ranges import choose_limits, choose_range
from linglos_deploy.quantization.rounding import grid_between
from linglos_deploy.quantization.scheme import QuantScheme


def stats_of(factor: float, read: float) -> TensorStatistics:
    """Return statistics of 16 channels, two of them louder by ``factor`` and read more softly by ``read``."""
    values = np.random.default_rng(0).standard_normal((20_000, 16)).astype(np.float32)
    values[:, :2] *= factor
    gains = np.where(np.arange(16) < 2, 1 / read**2, 1.0)
    return observe(values, grouped=GroupedAxis(1, group_channels(gains)))


def test_the_weighed_bound_is_taken_where_it_pays() -> None:
    stats = stats_of(20, 20)
    chosen = choose_range(stats, QuantScheme())
    assert chosen.method == "weighted"
    assert chosen.bound == threshold(stats, "weighted") < threshold(stats, "mse")
    assert "mse would clip at" in chosen.reason


def test_the_plain_bound_stays_where_weighing_promises_next_to_nothing() -> None:
    stats = stats_of(1, 3)
    chosen = choose_range(stats, QuantScheme())
    assert (chosen.method, chosen.bound) == ("mse", threshold(stats, "mse"))
    assert "weighing its channels would gain" in chosen.reason


def test_the_reason_says_why_channels_are_not_weighed() -> None:
    stats = observe(np.random.default_rng(0).standard_normal((100, 4)).astype(np.float32))
    assert choose_range(stats, QuantScheme()).reason.endswith("its channels count alike")
    assert choose_range(stats, QuantScheme(), unweighed="why not").reason.endswith("why not")
    assert choose_range(stats, QuantScheme()).method == "mse"


def test_what_asks_for_plain_error_gets_it() -> None:
    stats = stats_of(20, 20)
    chosen = choose_range(stats, QuantScheme(method="mse"))
    assert (chosen.method, chosen.bound) == ("mse", threshold(stats, "mse"))
    assert chosen.expected_db < choose_range(stats, QuantScheme()).expected_db


def test_a_hopeless_bound_is_given_up_for_the_weighed_one() -> None:
    stats = stats_of(1000, 1000)
    chosen = choose_range(stats, QuantScheme(method="absmax"))
    assert chosen.method == "weighted"
    assert "absmax would clip at" in chosen.reason


@pytest.mark.parametrize("mean", [0.3, 0.5, 0.7])
def test_a_background_lies_on_the_grid_with_a_zero_point_too(mean: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, 40_000)
    pixels[:15_000] = 0 if mean < 0.6 else 255
    values = ((pixels / 255 - mean) / 0.35).astype(np.float32)
    stats = observe(values)
    (spike,) = {-stats.minimum, stats.maximum} & set(stats.spikes()) if mean != 0.5 else {-stats.minimum}
    low, high = choose_limits(stats, QuantScheme(), choose_range(stats, QuantScheme()).bound)
    scale, zero = grid_between(low, high)
    assert abs(spike / scale - round(spike / scale)) < 1e-3
    assert low <= stats.minimum * 0.99
    assert high >= stats.maximum * 0.99
    found = (np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale
    assert np.abs(found - values).max() <= scale
