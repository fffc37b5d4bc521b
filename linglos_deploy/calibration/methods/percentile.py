"""A given share of the magnitudes is not clipped.

More zeros than the percentile leaves over would make it zero; it is then taken of the magnitudes that are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.calibration.bins import lower_edges, magnitude_bin, upper_edges
from linglos_deploy.calibration.registry import Settings
from linglos_deploy.calibration.statistics import TensorStatistics

if TYPE_CHECKING:
    from numpy.typing import NDArray


def percentile(stats: TensorStatistics, settings: Settings) -> float:
    """Return the bound that leaves the given share of the magnitudes as they are."""
    bound = magnitude_percentile(stats, settings.percentile)
    return bound if bound > 0 else magnitude_percentile(_without_zeros(stats), settings.percentile)


def magnitude_percentile(stats: TensorStatistics, percent: float) -> float:
    """Return a percentile of the magnitudes, within one bin of ``numpy.percentile(abs(values), percent)``.

    Where the two neighbouring values of the rank lie in different bins, it interpolates between them as NumPy does;
    inside a bin, values are taken to be spread evenly. 0.0 if nothing finite was sampled.
    """
    bins, counts = stats.magnitudes()
    if len(bins) == 0:
        return 0.0
    low = _least_magnitude(stats, int(bins[0]))
    rank = percent / 100 * (int(counts.sum()) - 1)
    below, above = int(np.floor(rank)), int(np.ceil(rank))
    first, second = (_value_at(bins, counts, position) for position in (below, above))
    value = first + (second - first) * (rank - below)
    return float(np.clip(value, low, stats.absolute_maximum))


def _without_zeros(stats: TensorStatistics) -> TensorStatistics:
    bins, counts = stats.magnitudes()
    kept = bins > 0
    return TensorStatistics(
        count=int(counts[kept].sum()),
        minimum=0.0,
        maximum=stats.absolute_maximum,
        bins=bins[kept],
        counts=counts[kept],
    )


def _least_magnitude(stats: TensorStatistics, first_bin: int) -> float:
    inside = [abs(edge) for edge in (stats.minimum, stats.maximum) if magnitude_bin(edge) == first_bin]
    one_sided = stats.minimum >= 0 or stats.maximum <= 0
    return min(inside) if one_sided and inside else 0.0


def _value_at(bins: NDArray[np.uint16], counts: NDArray[np.int64], position: int) -> float:
    ends = np.cumsum(counts)
    index = int(np.searchsorted(ends, position, side="right"))
    inside = position - (int(ends[index - 1]) if index else 0)
    low, high = float(lower_edges(bins[index : index + 1])[0]), float(upper_edges(bins[index : index + 1])[0])
    if bins[index] == 0:  # zero itself, and magnitudes below 2**-133
        return low
    return low + (high - low) * (inside + 0.5) / int(counts[index])
