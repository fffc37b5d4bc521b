"""The clipping bound with the least mean squared error of clipping and rounding, from a histogram of magnitudes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.calibration.clipping import bounds_that_meet, candidate_bounds, clipping_errors
from linglos_deploy.calibration.registry import Settings
from linglos_deploy.calibration.statistics import TensorStatistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STRIDE = 8
"""Every eighth candidate is tried first, then all around the best ones."""

_KEPT = 3
"""Local minima of the first round that are looked at closely."""


def mse(stats: TensorStatistics, settings: Settings) -> float:
    """Return the bound with the least mean squared error."""
    bins, counts = stats.magnitudes()
    return least_squared_error(bins, counts, stats.absolute_maximum, levels=settings.levels, spikes=stats.spikes())


def least_squared_error(
    bins: NDArray[np.uint16],
    counts: NDArray[np.int64] | NDArray[np.float64],
    largest: float,
    *,
    levels: int,
    spikes: Sequence[float] = (),
) -> float:
    """Return the bound with the least mean squared error.

    Those tried are the bins' upper edges, ``largest``, and what puts a spike on the grid.

    Args:
        bins: Occupied bins of the magnitudes, rising.
        counts: Values in each, or the sum of their weights.
        largest: Absolute maximum.
        levels: Steps on each side of zero.
        spikes: Magnitudes that all values in their bins have.
    """
    candidates = candidate_bounds(bins, largest)
    coarse = np.unique(np.append(np.arange(0, len(candidates), _STRIDE), len(candidates) - 1))
    errors = clipping_errors(bins, counts, candidates[coarse], levels=levels, largest=largest, spikes=spikes)
    near = np.concatenate([np.arange(index - _STRIDE, index + _STRIDE + 1) for index in coarse[_minima(errors)]])
    fine = np.unique(near[(near >= 0) & (near < len(candidates))])
    meeting = [bounds_that_meet(spike, largest, levels=levels) for spike in spikes]
    bounds = np.concatenate([candidates[fine], *meeting])
    errors = clipping_errors(bins, counts, bounds, levels=levels, largest=largest, spikes=spikes)
    return float(bounds[int(np.argmin(errors))])


def _minima(errors: NDArray[np.float64]) -> NDArray[np.intp]:
    padded = np.concatenate([[np.inf], errors, [np.inf]])
    local = np.flatnonzero((padded[1:-1] <= padded[:-2]) & (padded[1:-1] <= padded[2:]))
    return local[np.argsort(errors[local], kind="stable")[:_KEPT]]
