"""The bound with the least error behind the layers that read a tensor."""

from __future__ import annotations

import numpy as np
import pytest

from linglos_deploy.calibration.clipping import candidate_bounds
from linglos_deploy.calibration.groups import group_channels
from linglos_deploy.calibration.observers import GroupedAxis, observe
from linglos_deploy.calibration.thresholds import expected_sqnr, threshold

CHANNELS, COUNT = 16, 20_000


def case(factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Return values N x C with two loud channels, and a weight C x 8 that reads them as much more softly."""
    rng = np.random.default_rng(0)
    loudness = np.where(np.arange(CHANNELS) < 2, factor, 1.0)
    values = (rng.standard_normal((COUNT, CHANNELS)) * loudness).astype(np.float32)
    weight = rng.standard_normal((CHANNELS, 8)) / loudness[:, None]
    return values, weight


def output_noise(values: np.ndarray, weight: np.ndarray, bound: float) -> float:
    step = bound / 127
    rounded = np.clip(np.rint(values / step), -127, 127) * step
    return float(np.square((rounded - values) @ weight).mean())


@pytest.mark.parametrize("factor", [1.0, 5.0, 20.0])
def test_no_bound_gives_less_error_at_the_output(factor: float) -> None:
    values, weight = case(factor)
    stats = observe(values, grouped=GroupedAxis(1, group_channels(np.square(weight).sum(axis=1))))
    candidates = candidate_bounds(stats.magnitudes()[0], stats.absolute_maximum)[::6]
    least = min(output_noise(values, weight, float(bound)) for bound in candidates)
    found = output_noise(values, weight, threshold(stats, "weighted"))
    assert found <= 1.05 * least
    if factor == 20:
        assert output_noise(values, weight, threshold(stats, "mse")) > 1.2 * least


@pytest.mark.parametrize("factor", [1.0, 20.0, 150.0])
def test_what_is_expected_is_what_comes_out(factor: float) -> None:
    values, weight = case(factor)
    stats = observe(values, grouped=GroupedAxis(1, group_channels(np.square(weight).sum(axis=1))))
    signal = float(np.square(values @ weight).mean())
    for method in ("mse", "absmax", "weighted"):
        bound = threshold(stats, method)
        measured = 10 * np.log10(signal / output_noise(values, weight, bound))
        assert expected_sqnr(stats, bound) == pytest.approx(measured, abs=0.8), method


def test_without_groups_it_is_the_plain_one() -> None:
    stats = observe(case(20.0)[0])
    assert threshold(stats, "weighted") == threshold(stats, "mse")
