"""The clipping bound whose quantized distribution diverges least from the observed one.

After Szymon Migacz, *8-bit inference with TensorRT*, GTC 2017, with three differences. The distribution comes from the
bins of :mod:`.bins`, so no range is needed before collecting. Magnitudes that round to zero form a level of their own
around zero. And the quantized distribution is not normalized to hide what was clipped: with that, clipping everything
into one bin would be a perfect fit, which happens where a tensor has few distinct values, such as pixels.

For a bound ``T``, the observed distribution ``P`` keeps the bins that start below ``T``, with all clipped values added
to the last of them. The quantized one, ``Q``, spreads the unclipped count of each level over the level's occupied bins,
in proportion to their widths. The divergence of two measures of unequal mass is
``D(P || Q) = sum(P * log(P / Q) - P + Q)`` (I. Csiszár, *Why least squares and maximum entropy?*, 1991).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.calibration.bins import lower_edges, upper_edges
from linglos_deploy.calibration.clipping import candidate_bounds
from linglos_deploy.calibration.registry import Settings
from linglos_deploy.calibration.statistics import TensorStatistics

if TYPE_CHECKING:
    from numpy.typing import NDArray


def entropy(stats: TensorStatistics, settings: Settings) -> float:
    """Return the bound, among the bins' upper edges and the largest magnitude, with the least divergence."""
    bins, counts = stats.magnitudes()
    return least_divergence(bins, counts, stats.absolute_maximum, levels=settings.levels)


def least_divergence(bins: NDArray[np.uint16], counts: NDArray[np.int64], largest: float, *, levels: int) -> float:
    """Return the bound, among the bins' upper edges and ``largest``, with the least divergence.

    Zeros take no part: every bound represents them exactly.

    Args:
        bins: Occupied bins of the magnitudes, rising.
        counts: Values in each.
        largest: Absolute maximum, above 0.
        levels: Steps on each side of zero.
    """
    candidates = candidate_bounds(bins, largest)
    nonzero = bins > 0
    return float(candidates[int(np.argmin(divergences(bins[nonzero], counts[nonzero], candidates, levels=levels)))])


def divergences(
    bins: NDArray[np.uint16], counts: NDArray[np.int64], bounds: NDArray[np.float64], *, levels: int
) -> NDArray[np.float64]:
    """Return ``D(P || Q)`` in nats for each bound.

    All sums over bins are differences of running sums, so a bound costs as much as it has levels.

    Args:
        bins: Occupied bins, rising, zero not among them.
        counts: Values in each, above 0.
        bounds: Each above the lower edge of the first bin.
        levels: Steps on each side of zero.
    """
    low, width = lower_edges(bins), upper_edges(bins) - lower_edges(bins)
    weight = counts.astype(np.float64)
    total = weight.sum()
    kept = np.searchsorted(low, bounds, side="left")
    inside = _running(weight)[kept]
    clipped = total - inside

    last = kept - 1
    densities = _running(weight * np.log(weight / width))[kept]
    densities += _xlogx_density(weight[last] + clipped, width[last]) - _xlogx_density(weight[last], width[last])

    edges = _level_edges(low + width / 2, kept, bounds / levels, levels)
    mass, widths = np.diff(_running(weight)[edges], axis=1), np.diff(_running(width)[edges], axis=1)
    spread = np.log(np.divide(mass, widths, out=np.ones_like(mass), where=widths > 0))
    last_level = np.argmax(edges[:, 1:] == kept[:, None], axis=1)
    rows = np.arange(len(bounds))
    levels_part = (mass * spread).sum(axis=1) + clipped * spread[rows, last_level]
    return np.asarray((densities - levels_part - clipped) / total)


def _level_edges(
    centres: NDArray[np.float64], kept: NDArray[np.intp], steps: NDArray[np.float64], levels: int
) -> NDArray[np.intp]:
    """Return, for each bound, where in the bins each level starts, and in the end ``kept``."""
    borders = (np.arange(1, levels + 1) - 0.5)[None, :] * steps[:, None]
    inner = np.minimum(np.searchsorted(centres, borders.ravel()).reshape(borders.shape), kept[:, None])
    return np.concatenate([np.zeros((len(steps), 1), dtype=np.intp), inner, kept[:, None]], axis=1)


def _running(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(values)])


def _xlogx_density(mass: NDArray[np.float64], width: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(mass * np.log(mass / width))
