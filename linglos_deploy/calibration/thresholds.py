"""Where to clip a tensor, told from its statistics alone: no image is needed any more.

All methods give a symmetric bound ``T``: values are clipped to ``[-T, T]`` and rounded to ``levels`` steps on each
side, ``step = T / levels``. For :attr:`Method.ENTROPY` and :attr:`Method.MSE`, candidates for ``T`` are the edges of
the histogram's occupied bins and the absolute maximum.

Defined answers for degenerate tensors, for every method:

- nothing finite was seen, all values are zero, or all are so small that the step would not be a normal float32: 0.0,
  which means "do not quantize";
- one magnitude only (a constant): that magnitude;
- more zeros than the percentile leaves over: the percentile of the magnitudes that are not zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.calibration.bins import lower_edges, magnitude_bin, upper_edges
from linglos_deploy.calibration.entropy import least_divergence
from linglos_deploy.calibration.squared_error import clipping_errors, least_squared_error
from linglos_deploy.calibration.statistics import TensorStatistics
from linglos_deploy.choices import Method
from linglos_deploy.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LEVELS", "Method", "best_method", "magnitude_percentile", "quantization_error", "threshold"]

LEVELS = 127
"""Steps on each side of zero of a symmetric INT8 tensor."""

SMALLEST_STEP = 2.0**-126
"""Smallest normal float32: a scale below it would lose precision, or be flushed to zero."""


def threshold(stats: TensorStatistics, method: Method, *, percentile: float = 99.99, levels: int = LEVELS) -> float:
    """Return the symmetric clipping bound of a tensor.

    Args:
        stats: What was seen of it.
        method: How to choose.
        percentile: Share of the magnitudes, in percent, that :attr:`Method.PERCENTILE` does not clip.
        levels: Steps on each side of zero: 127 for INT8.

    Returns:
        A bound in (0, absolute maximum], or 0.0 where the tensor cannot be quantized.

    Raises:
        UsageError: The percentile is not in (0, 100], or there is no level.
    """
    method = Method(method)
    if not 0 < percentile <= 100:
        raise UsageError("The percentile must be in (0, 100].", found=str(percentile), expected="99.99")
    if levels < 1:
        raise UsageError("Quantization needs a level.", found=str(levels), expected="127 for INT8")
    largest = stats.absolute_maximum
    if largest < levels * SMALLEST_STEP:
        return 0.0
    bins, counts = stats.magnitudes()
    if method is Method.ABSMAX or len(bins) == 0:
        return largest
    if method is Method.PERCENTILE:
        bound = _percentile_bound(stats, percentile)
    elif method is Method.ENTROPY:
        bound = least_divergence(bins, counts, largest, levels=levels)
    else:
        bound = least_squared_error(bins, counts, largest, levels=levels)
    return max(min(bound, largest), levels * SMALLEST_STEP)


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


def quantization_error(stats: TensorStatistics, bound: float, *, levels: int = LEVELS) -> float:
    """Return the mean squared error that clipping at ``bound`` and rounding would make, from the histogram.

    For the output of a layer it tells the same story only where all columns of the weight are equally long: an error of
    variance ``e`` on channel ``c`` becomes one of ``e * sum(W[:, c]**2)``, summed over the outputs.

    Args:
        stats: What was seen.
        bound: Where to clip, above 0.
        levels: Steps on each side of zero.
    """
    bins, counts = stats.magnitudes()
    total = int(counts.sum())
    if total == 0:
        return 0.0
    return float(clipping_errors(bins, counts, np.array([bound]), levels=levels)[0]) / total


def best_method(
    stats: TensorStatistics,
    methods: tuple[Method, ...] = tuple(Method),
    *,
    percentile: float = 99.99,
    levels: int = LEVELS,
) -> tuple[Method, float]:
    """Return the method, and its bound, with the least :func:`quantization_error`; the first one of equals."""
    bounds = [(method, threshold(stats, method, percentile=percentile, levels=levels)) for method in methods]
    usable = [(method, bound) for method, bound in bounds if bound > 0]
    if not usable:
        return bounds[0]
    return min(usable, key=lambda pair: quantization_error(stats, pair[1], levels=levels))


def _percentile_bound(stats: TensorStatistics, percentile: float) -> float:
    bound = magnitude_percentile(stats, percentile)
    return bound if bound > 0 else magnitude_percentile(_without_zeros(stats), percentile)


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
