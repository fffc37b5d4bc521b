"""Thresholds from a histogram against brute force on the raw values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from linglos_deploy.calibration.bins import magnitude_bin, upper_halves
from linglos_deploy.calibration.entropy import divergences
from linglos_deploy.calibration.observers import observe
from linglos_deploy.calibration.sampling import Sampling
from linglos_deploy.calibration.squared_error import candidate_bounds
from linglos_deploy.calibration.statistics import TensorStatistics
from linglos_deploy.calibration.thresholds import (
    Method,
    best_method,
    magnitude_percentile,
    quantization_error,
    threshold,
)
from linglos_deploy.errors import UsageError

finite = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)


def _drawn(kind: str, seed: int, size: int = 100_000) -> np.ndarray:
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal(size)
    values = {
        "normal": normal,
        "laplace": rng.laplace(size=size),
        "gelu": normal * (1 + np.tanh(0.8 * normal * (1 + 0.044715 * normal**2))) / 2,
        "relu": np.maximum(normal, 0),
        "student": rng.standard_t(4, size=size),
        "uniform": rng.uniform(-3, 5, size),
        "lognormal": rng.lognormal(size=size),
    }[kind]
    return values.astype(np.float32)


KINDS = ["normal", "laplace", "gelu", "relu", "student", "uniform", "lognormal"]


@given(npst.arrays(np.float32, st.integers(1, 300), elements=finite), st.floats(0, 100))
def test_percentiles_are_within_one_bin_of_numpy(values, percent):
    exact = float(np.percentile(np.abs(values).astype(np.float64), percent))
    found = magnitude_percentile(observe(values[None]), percent)
    assert abs(magnitude_bin(found) - magnitude_bin(exact)) <= 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("percent", [50, 99, 99.9, 99.99, 100])
def test_percentile_thresholds_are_within_one_bin_of_numpy(kind, percent):
    values = _drawn(kind, 0)
    exact = float(np.percentile(np.abs(values).astype(np.float64), percent))
    if exact > 0:
        found = threshold(observe(values), Method.PERCENTILE, percentile=percent)
        assert abs(magnitude_bin(found) - magnitude_bin(exact)) <= 1


def _squared_errors(values: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    magnitudes = np.abs(values).astype(np.float64)
    steps = bounds / 127
    return np.array(
        [
            np.square(magnitudes - np.rint(np.minimum(magnitudes, bound) / step) * step).sum()
            for bound, step in zip(bounds, steps, strict=True)
        ]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_least_squared_error_is_within_one_bin_of_a_search_on_raw_data(kind):
    values = _drawn(kind, 1)
    stats = observe(values)
    bounds = candidate_bounds(stats.magnitudes()[0], stats.absolute_maximum)
    bounds = bounds[bounds > stats.absolute_maximum / 32]
    errors = _squared_errors(values, bounds)
    found = int(np.searchsorted(bounds, threshold(stats, Method.MSE)))
    assert abs(found - int(np.argmin(errors))) <= 1


@pytest.mark.parametrize("seed", range(6))
def test_where_the_minimum_is_flat_the_error_is_as_good(seed):
    values = _drawn("normal", seed, size=30_000)
    stats = observe(values)
    bounds = candidate_bounds(stats.magnitudes()[0], stats.absolute_maximum)
    bounds = bounds[bounds > stats.absolute_maximum / 4]
    found = _squared_errors(values, np.array([threshold(stats, Method.MSE)]))[0]
    assert found <= 1.003 * _squared_errors(values, bounds).min()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bound", [0.3, 0.7, 1.0])
def test_the_expected_error_is_that_of_the_raw_values(kind, bound):
    values = _drawn(kind, 2)
    stats = observe(values)
    clip = bound * stats.absolute_maximum
    exact = float(_squared_errors(values, np.array([clip]))[0]) / values.size
    assert quantization_error(stats, clip) == pytest.approx(exact, rel=0.01)


def _raw_divergence(values: np.ndarray, bound: float, levels: int) -> float:
    """The definition, spelled out on raw values, one value and one level at a time."""
    magnitudes = np.abs(values)
    magnitudes = magnitudes[magnitudes >= 2.0**-133]
    bins, counts = np.unique(upper_halves(magnitudes), return_counts=True)
    low = (bins.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    high = ((bins.astype(np.uint32) + 1) << 16).view(np.float32).astype(np.float64)
    kept = low < bound
    level = np.floor((low + high)[kept] / 2 / (bound / levels) + 0.5)
    observed = counts[kept].astype(np.float64)
    quantized = np.empty_like(observed)
    for one in np.unique(level):
        there = level == one
        width = (high - low)[kept][there]
        quantized[there] = observed[there].sum() * width / width.sum()
    observed[-1] += counts[~kept].sum()
    p, q = observed / counts.sum(), quantized / counts.sum()
    return float(np.sum(p * np.log(p / q) - p + q))


@pytest.mark.parametrize("kind", ["normal", "relu", "uniform", "lognormal"])
def test_the_least_divergence_is_that_of_a_search_on_raw_data(kind):
    values = _drawn(kind, 3, size=5_000)
    stats = observe(values)
    bins, counts = stats.magnitudes()
    bounds = candidate_bounds(bins, stats.absolute_maximum)
    bounds = bounds[bounds > stats.absolute_maximum / 16]  # far below, nearly everything is clipped
    raw = np.array([_raw_divergence(values, bound, 127) for bound in bounds])
    nonzero = bins > 0
    assert divergences(bins[nonzero], counts[nonzero], bounds, levels=127) == pytest.approx(raw, rel=1e-6, abs=1e-9)
    best, found = int(np.argmin(raw)), int(np.searchsorted(bounds, threshold(stats, Method.ENTROPY)))
    assert abs(best - found) <= 1


@given(npst.arrays(np.float32, st.integers(1, 200), elements=finite), st.sampled_from(list(Method)))
def test_a_threshold_is_zero_or_within_the_range(values, method):
    stats = observe(values)
    bound = threshold(stats, method)
    if stats.absolute_maximum < 127 * 2.0**-126:
        assert bound == 0.0
    else:
        assert 127 * 2.0**-126 <= bound <= stats.absolute_maximum


@pytest.mark.parametrize("method", list(Method))
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


@pytest.mark.parametrize("method", list(Method))
def test_a_tensor_of_zeros_and_one_outlier_keeps_the_outlier(method):
    values = np.zeros(100_000, np.float32)
    values[3] = -50.0
    assert threshold(observe(values), method) == pytest.approx(50.0, rel=1 / 128)


def test_a_percentile_among_many_zeros_is_that_of_the_rest():
    values = np.zeros(100_000, np.float32)
    values[:4] = [1, 2, 3, 4]
    assert threshold(observe(values), Method.PERCENTILE, percentile=99.9) == pytest.approx(4.0, rel=1 / 64)


def test_outliers_are_clipped_by_all_methods_but_the_absolute_maximum():
    values = np.random.default_rng(0).standard_normal(1_000_000).astype(np.float32)
    values[0] = 1000.0
    stats = observe(values)
    bounds = {method: threshold(stats, method) for method in Method}
    assert bounds.pop(Method.ABSMAX) == 1000.0
    assert all(bound < 50 for bound in bounds.values()), bounds


def test_a_few_discrete_values_are_not_clipped_away_by_entropy():
    values = np.random.default_rng(0).integers(0, 256, 100_000).astype(np.float32) / 64 - 2
    assert threshold(observe(values), Method.ENTROPY) > 1.5


def test_the_best_method_has_the_least_expected_error():
    stats = observe(_drawn("student", 0))
    method, bound = best_method(stats)
    assert method is Method.MSE
    errors = [quantization_error(stats, threshold(stats, other)) for other in Method]
    assert quantization_error(stats, bound) == min(errors)
    assert best_method(TensorStatistics()) == (Method.ABSMAX, 0.0)
    assert quantization_error(TensorStatistics(), 1.0) == 0.0
    assert magnitude_percentile(TensorStatistics(), 50) == 0.0


def test_sampled_statistics_give_nearly_the_same_thresholds():
    values = _drawn("normal", 5).reshape(2, -1)
    sampled = observe(values, tensor="x", sampling=Sampling(8, 1))
    for method in (Method.ABSMAX, Method.PERCENTILE):
        expected = threshold(observe(values), method, percentile=99)
        assert threshold(sampled, method, percentile=99) == pytest.approx(expected, rel=0.1)


def test_wrong_arguments_are_refused():
    stats = observe(np.ones(3, np.float32))
    with pytest.raises(UsageError, match="percentile"):
        threshold(stats, Method.PERCENTILE, percentile=0)
    with pytest.raises(UsageError, match="level"):
        threshold(stats, Method.MSE, levels=0)
