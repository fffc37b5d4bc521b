"""What holds for every method, and what clipping is expected to cost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from linglos_deploy.calibration import thresholds
from linglos_deploy.calibration.clipping import ROOM
from linglos_deploy.calibration.methods.percentile import magnitude_percentile
from linglos_deploy.calibration.observers import observe
from linglos_deploy.calibration.registry import builtin_methods
from linglos_deploy.calibration.sampling import Sampling
from linglos_deploy.calibration.statistics import TensorStatistics
from linglos_deploy.calibration.thresholds import (
    best_method,
    quantization_error,
    threshold,
)
from linglos_deploy.errors import UsageError
from tests.calibration.distributions import KINDS, drawn, finite, squared_errors


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bound", [0.3, 0.7, 1.0])
def test_the_expected_error_is_that_of_the_raw_values(kind, bound):
    values = drawn(kind, 2)
    stats = observe(values)
    clip = bound * stats.absolute_maximum
    exact = float(squared_errors(values, np.array([clip]))[0]) / values.size
    assert quantization_error(stats, clip) == pytest.approx(exact, rel=0.01)


@given(npst.arrays(np.float32, st.integers(1, 200), elements=finite), st.sampled_from(builtin_methods()))
def test_a_threshold_is_zero_or_within_the_range(values, method):
    stats = observe(values)
    bound = threshold(stats, method)
    if stats.absolute_maximum < 127 * 2.0**-126:
        assert bound == 0.0
    else:
        assert 127 * 2.0**-126 <= bound <= stats.absolute_maximum * (ROOM if stats.spikes() else 1)


@pytest.mark.parametrize("method", builtin_methods())
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], 0.0),
        ([np.nan, np.inf, -np.inf], 0.0),
        ([0.0, -0.0, 0.0], 0.0),
        ([1e-40, -1e-42], 0.0),
        ([1e-38] * 10, 0.0),
        ([2.5] * 1000, 2.5),
        ([-2.5] * 1000, 2.5),
        ([3e38] * 4, float(np.float32(3e38))),
        ([7.0, np.nan], 7.0),
    ],
)
def test_degenerate_tensors_have_defined_answers(method, values, expected):
    assert threshold(observe(np.array(values, np.float32)), method) == expected


@pytest.mark.parametrize("method", builtin_methods())
def test_a_tensor_of_zeros_and_one_outlier_keeps_the_outlier(method):
    values = np.zeros(100_000, np.float32)
    values[3] = -50.0
    assert threshold(observe(values), method) == pytest.approx(50.0, rel=1 / 128)


def test_outliers_are_clipped_by_all_methods_but_the_absolute_maximum():
    values = np.random.default_rng(0).standard_normal(1_000_000).astype(np.float32)
    values[0] = 1000.0
    stats = observe(values)
    bounds = {method: threshold(stats, method) for method in builtin_methods()}
    assert bounds.pop("absmax") == 1000.0
    assert all(bound < 50 for bound in bounds.values()), bounds


def test_the_best_method_has_the_least_expected_error():
    stats = observe(drawn("student", 0))
    method, bound = best_method(stats)
    assert method == "mse"
    errors = [quantization_error(stats, threshold(stats, other)) for other in builtin_methods()]
    assert quantization_error(stats, bound) == min(errors)
    assert best_method(TensorStatistics()) == ("absmax", 0.0)
    assert quantization_error(TensorStatistics(), 1.0) == 0.0
    assert magnitude_percentile(TensorStatistics(), 50) == 0.0


def test_sampled_statistics_give_nearly_the_same_thresholds():
    values = drawn("normal", 5).reshape(2, -1)
    sampled = observe(values, tensor="x", sampling=Sampling(8, 1))
    for method in ("absmax", "percentile"):
        expected = threshold(observe(values), method, percentile=99)
        assert threshold(sampled, method, percentile=99) == pytest.approx(expected, rel=0.1)


def test_wrong_arguments_are_refused():
    stats = observe(np.ones(3, np.float32))
    with pytest.raises(UsageError, match="percentile"):
        threshold(stats, "percentile", percentile=0)
    with pytest.raises(UsageError, match="level"):
        threshold(stats, "mse", levels=0)


def test_a_method_that_looks_at_no_single_value_gets_no_room_above_the_largest(monkeypatch):
    monkeypatch.setattr(thresholds, "load_method", lambda name: lambda stats, settings: 4 * stats.absolute_maximum)
    stats = observe(np.array([2.5] * 1000 + [1.7], np.float32))
    assert stats.spikes() == (2.5,)
    assert threshold(stats, "mse") == 2.5
