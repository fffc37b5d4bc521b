"""Percentiles from a histogram against NumPy's of the raw values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from linglos_deploy.calibration.bins import magnitude_bin
from linglos_deploy.calibration.methods.percentile import magnitude_percentile
from linglos_deploy.calibration.observers import observe
from linglos_deploy.calibration.thresholds import threshold
from tests.calibration.distributions import KINDS, drawn, finite


@given(npst.arrays(np.float32, st.integers(1, 300), elements=finite), st.floats(0, 100))
def test_percentiles_are_within_one_bin_of_numpy(values, percent):
    exact = float(np.percentile(np.abs(values).astype(np.float64), percent))
    found = magnitude_percentile(observe(values[None]), percent)
    assert abs(magnitude_bin(found) - magnitude_bin(exact)) <= 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("percent", [50, 99, 99.9, 99.99, 100])
def test_percentile_thresholds_are_within_one_bin_of_numpy(kind, percent):
    values = drawn(kind, 0)
    exact = float(np.percentile(np.abs(values).astype(np.float64), percent))
    if exact > 0:
        found = threshold(observe(values), "percentile", percentile=percent)
        assert abs(magnitude_bin(found) - magnitude_bin(exact)) <= 1


def test_a_percentile_among_many_zeros_is_that_of_the_rest():
    values = np.zeros(100_000, np.float32)
    values[:4] = [1, 2, 3, 4]
    assert threshold(observe(values), "percentile", percentile=99.9) == pytest.approx(4.0, rel=1 / 64)
