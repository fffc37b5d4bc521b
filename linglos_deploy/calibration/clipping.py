"""What clipping and rounding cost, from a histogram of magnitudes, and which bounds are worth trying.

Inside a bin, values are taken to be spread evenly, and the rounding error is integrated over the bin in closed form:
with ``r(u) = u - round(u)``, the integral of ``r**2`` from 0 to ``u`` is ``round(u) / 12 + r(u)**3 / 3``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.calibration.bins import lower_edges, magnitude_bin, upper_edges

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OCTAVES = 10
"""Candidates reach down to ``2**-10`` of the absolute maximum; below, the clipped values alone cost more."""

ROOM = 1.05
"""How far above the largest magnitude a bound may lie, over it, so that a step meets a value that many values have."""


def candidate_bounds(bins: NDArray[np.uint16], largest: float) -> NDArray[np.float64]:
    """Return the bounds worth trying, rising: upper edges of occupied bins below ``largest``, and ``largest``."""
    edges = upper_edges(bins[bins > 0])
    return np.append(edges[(edges < largest) & (edges > largest * 2.0**-_OCTAVES)], largest)


def bounds_that_meet(spike: float, largest: float, *, levels: int) -> NDArray[np.float64]:
    """Return the bounds whose steps meet a magnitude exactly, from half of ``largest`` to :data:`ROOM` times it."""
    steps = np.arange(1, levels + 1)
    bounds = levels * spike / steps
    return bounds[(bounds >= largest / 2) & (bounds <= largest * ROOM)]


def clipping_errors(
    bins: NDArray[np.uint16],
    counts: NDArray[np.int64] | NDArray[np.float64],
    bounds: NDArray[np.float64],
    *,
    levels: int,
    largest: float = np.inf,
    spikes: Sequence[float] = (),
) -> NDArray[np.float64]:
    """Return the summed squared error of clipping and rounding, for each bound.

    Args:
        bins: Occupied bins of the magnitudes, rising.
        counts: Values in each, or the sum of their weights.
        bounds: float64, above 0.
        levels: Steps on each side of zero.
        largest: No value in the last bin is above this.
        spikes: Magnitudes that all values in their bins have.
    """
    low, high = lower_edges(bins), np.minimum(upper_edges(bins), largest)
    for spike in spikes:
        place = bins == magnitude_bin(spike)
        low[place] = high[place] = spike
    evenly = _Evenly.of(low, high, counts.astype(np.float64))
    return np.array([evenly.error(float(bound), levels) for bound in bounds])


def mean_squares(bins: NDArray[np.uint16], *, largest: float = np.inf) -> NDArray[np.float64]:
    """Return the mean square of the values in each bin, which are taken to be spread evenly.

    Args:
        bins: Occupied bins of the magnitudes, rising.
        largest: No value in the last bin is above this.
    """
    low, high = lower_edges(bins), np.minimum(upper_edges(bins), largest)
    return np.asarray((low**2 + low * high + high**2) / 3)


@dataclass(frozen=True, slots=True)
class _Evenly:
    """Values spread evenly inside bins, with running sums of what does not need rounding."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    weight: NDArray[np.float64]
    running: NDArray[np.float64]
    """Row ``k``, column ``i``: sum over the first ``i`` bins of the ``k``-th moment, ``k`` = 0, 1, 2."""

    @classmethod
    def of(cls, low: NDArray[np.float64], high: NDArray[np.float64], weight: NDArray[np.float64]) -> _Evenly:
        moments = np.stack([weight, weight * (low + high) / 2, weight * (low**2 + low * high + high**2) / 3])
        running = np.concatenate([np.zeros((3, 1)), np.cumsum(moments, axis=1)], axis=1)
        return cls(low, high, weight, running)

    def error(self, bound: float, levels: int) -> float:
        step = bound / levels
        first = int(np.searchsorted(self.high, step / 2, side="right"))  # below, everything rounds to zero
        last = max(first, int(np.searchsorted(self.high, bound, side="right")))  # above, everything is clipped
        zeroed = self.running[2, first]
        count, total, squares = self.running[:, -1] - self.running[:, min(last + 1, len(self.low))]
        clipped = squares - 2 * bound * total + bound * bound * count
        rounded = self._rounded(slice(first, last), bound, step) + self._rounded(slice(last, last + 1), bound, step)
        return float(zeroed + max(clipped, 0.0) + rounded)

    def _rounded(self, part: slice, bound: float, step: float) -> float:
        low, high, weight = self.low[part], self.high[part], self.weight[part]
        if len(low) == 0:
            return 0.0
        width = high - low
        a, b = np.minimum(low, bound) / step, np.minimum(high, bound) / step
        rounding = (_rounding_integral(b) - _rounding_integral(a)) * step**3
        clipping = (np.maximum(high - bound, 0.0) ** 3 - np.maximum(low - bound, 0.0) ** 3) / 3
        points = _point_error(low, bound, step)
        spread = np.divide(rounding + clipping, width, out=points, where=width > 0)
        return float(np.dot(weight, spread))


def _rounding_integral(u: NDArray[np.float64]) -> NDArray[np.float64]:
    nearest = np.rint(u)
    rest = u - nearest
    return nearest / 12 + rest * rest * rest / 3


def _point_error(value: NDArray[np.float64], bound: float, step: float) -> NDArray[np.float64]:
    clipped = np.minimum(value, bound)
    return np.asarray((value - np.rint(clipped / step) * step) ** 2)
