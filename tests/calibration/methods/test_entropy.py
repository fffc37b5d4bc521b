"""The least divergence from a histogram against a search on the raw values."""

from __future__ import annotations

import numpy as np
import pytest

from linglos_deploy.calibration.bins import upper_halves
from linglos_deploy.calibration.clipping import candidate_bounds
from linglos_deploy.calibration.methods.entropy import divergences
from linglos_deploy.calibration.observers import observe
from linglos_deploy.calibration.thresholds import threshold
from tests.calibration.distributions import drawn


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
    values = drawn(kind, 3, size=5_000)
    stats = observe(values)
    bins, counts = stats.magnitudes()
    bounds = candidate_bounds(bins, stats.absolute_maximum)
    bounds = bounds[bounds > stats.absolute_maximum / 16]  # far below, nearly everything is clipped
    raw = np.array([_raw_divergence(values, bound, 127) for bound in bounds])
    nonzero = bins > 0
    assert divergences(bins[nonzero], counts[nonzero], bounds, levels=127) == pytest.approx(raw, rel=1e-6, abs=1e-9)
    best, found = int(np.argmin(raw)), int(np.searchsorted(bounds, threshold(stats, "entropy")))
    assert abs(best - found) <= 1


def test_a_few_discrete_values_are_not_clipped_away_by_entropy():
    values = np.random.default_rng(0).integers(0, 256, 100_000).astype(np.float32) / 64 - 2
    assert threshold(observe(values), "entropy") > 1.5
