"""The least squared error from a histogram against a search on the raw values."""

from __future__ import annotations

import numpy as np
import pytest

from linglos_deploy.calibration.clipping import candidate_bounds
from linglos_deploy.calibration.observers import observe
from linglos_deploy.calibration.thresholds import threshold
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
