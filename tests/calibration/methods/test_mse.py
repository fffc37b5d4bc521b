"""The least squared error from a histogram against a search on the raw values."""

from __future__ import annotations

import numpy as np
import pytest

from linglos_deploy.calibration.clipping import candidate_bounds
from linglos_deploy.calibration.observers import observe
from linglos_deploy.calibration.thresholds import quantization_error, threshold
from tests.calibration.distributions import KINDS, drawn, squared_errors


@pytest.mark.parametrize("kind", KINDS)
def test_the_least_squared_error_is_within_one_bin_of_a_search_on_raw_data(kind):
    values = drawn(kind, 1)
    stats = observe(values)
    bounds = candidate_bounds(stats.magnitudes()[0], stats.absolute_maximum)
    bounds = bounds[bounds > stats.absolute_maximum / 32]
    errors = squared_errors(values, bounds)
    found = int(np.searchsorted(bounds, threshold(stats, "mse")))
    assert abs(found - int(np.argmin(errors))) <= 1


@pytest.mark.parametrize("seed", range(6))
def test_where_the_minimum_is_flat_the_error_is_as_good(seed):
    values = drawn("normal", seed, size=30_000)
    stats = observe(values)
    bounds = candidate_bounds(stats.magnitudes()[0], stats.absolute_maximum)
    bounds = bounds[bounds > stats.absolute_maximum / 4]
    found = squared_errors(values, np.array([threshold(stats, "mse")]))[0]
    assert found <= 1.003 * squared_errors(values, bounds).min()


def test_a_value_that_many_values_have_lies_on_the_grid() -> None:
    """Pixels of a uniform background, normalized: the error of their one value would be that of most of the picture."""
    pixels = np.random.default_rng(0).integers(0, 256, 40_000)
    pixels[:15_000] = 0
    values = ((pixels / 255 - 0.3) / 0.35).astype(np.float32)
    stats = observe(values)
    assert stats.spikes() == (-stats.minimum,)
    bound = threshold(stats, "mse")
    steps = -stats.minimum / (bound / 127)
    assert abs(steps - round(steps)) < 1e-6
    edges = candidate_bounds(stats.magnitudes()[0], stats.absolute_maximum)[-40:]
    found = float(squared_errors(values, np.array([bound]))[0])
    assert found <= squared_errors(values, edges).min()
    assert quantization_error(stats, bound) == pytest.approx(found / len(values), rel=0.02)


def test_smooth_distributions_have_no_spikes() -> None:
    rng = np.random.default_rng(0)
    for values in (rng.random(10_000), rng.standard_normal(10_000), np.tanh(rng.standard_normal(10_000))):
        assert observe(values.astype(np.float32)).spikes() == ()
    assert observe(np.zeros(10, np.float32)).spikes() == ()
    assert observe(np.maximum(rng.standard_normal(100), 0).astype(np.float32)).spikes() == ()
    assert observe(np.clip(rng.standard_normal(1000), -1, 2).astype(np.float32)).spikes() == (1.0,)
