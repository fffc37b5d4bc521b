"""Where to clip a tensor, told from its statistics alone: no image is needed any more.

All methods give a symmetric bound ``T``: values are clipped to ``[-T, T]`` and rounded to ``levels`` steps on each
side, ``step = T / levels``. For ``entropy``, ``mse`` and ``weighted``, candidates for ``T`` are the edges of the
histogram's occupied bins and the absolute maximum.

Defined answers for degenerate tensors, for every method:

- nothing finite was seen, all values are zero, or all are so small that the step would not be a normal float32: 0.0,
  which means "do not quantize";
- no bound above the absolute maximum, unless a step then meets the one value that many values have; nor one so small
  that the step would not be a normal float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from linglos_deploy.calibration.clipping import ROOM, clipping_errors, mean_squares
from linglos_deploy.calibration.registry import LEVELS, Settings, load_method, threshold_methods
from linglos_deploy.calibration.statistics import TensorStatistics

SMALLEST_STEP = 2.0**-126
"""Smallest normal float32: a scale below it would lose precision, or be flushed to zero."""


def threshold(stats: TensorStatistics, method: str, *, percentile: float = 99.99, levels: int = LEVELS) -> float:
    """Return the symmetric clipping bound of a tensor.

    Args:
        stats: What was seen of it.
        method: How to choose: one of :func:`~linglos_deploy.calibration.registry.threshold_methods`.
        percentile: Share of the magnitudes, in percent, that ``percentile`` does not clip.
        levels: Steps on each side of zero: 127 for INT8.

    Returns:
        A bound above 0 and at most the absolute maximum, or :data:`~.clipping.ROOM` times it where that puts a value on
        the grid that many values have; 0.0 where the tensor cannot be quantized.

    Raises:
        UsageError: There is no such method, the percentile is not in (0, 100], or there is no level.
    """
    settings = Settings(levels=levels, percentile=percentile)
    choose = load_method(method)
    largest = stats.absolute_maximum
    if largest < levels * SMALLEST_STEP:
        return 0.0
    if len(stats.magnitudes()[0]) == 0:  # sampling met nothing finite
        return largest
    bound = choose(stats, settings)
    room = ROOM if any(_meets(bound, spike, levels) for spike in stats.spikes()) else 1.0
    return max(min(bound, largest * room), levels * SMALLEST_STEP)


def _meets(bound: float, spike: float, levels: int) -> bool:
    """Return whether a step of a bound lies on a magnitude."""
    steps = levels * spike / bound if bound > 0 else 0.5
    return abs(steps - round(steps)) < 1e-9


def quantization_error(stats: TensorStatistics, bound: float, *, levels: int = LEVELS) -> float:
    """Return the mean squared error that clipping at ``bound`` and rounding would make, from the histogram.

    For the output of a layer it tells the same story only where all columns of the weight are equally long;
    :func:`expected_sqnr` weighs the channels.

    Args:
        stats: What was seen.
        bound: Where to clip, above 0.
        levels: Steps on each side of zero.
    """
    bins, counts = stats.magnitudes()
    total = int(counts.sum())
    if total == 0:
        return 0.0
    errors = clipping_errors(bins, counts, np.array([bound]), levels=levels, spikes=stats.spikes())
    return float(errors[0]) / total


def expected_sqnr(stats: TensorStatistics, bound: float, *, levels: int = LEVELS) -> float:
    """Return the signal-to-noise ratio, in decibels, that clipping at ``bound`` and rounding would leave of a tensor.

    Signal and noise are weighed by the gains of the channels (:mod:`.gains`) where the table has groups of them: then
    this is the ratio at the outputs of the layers that read the tensor, as far as errors are independent of each other.

    Args:
        stats: What was seen.
        bound: Where to clip, above 0.
        levels: Steps on each side of zero.
    """
    bins, weights = stats.weighed_magnitudes()
    signal = float(np.dot(weights, mean_squares(bins, largest=stats.absolute_maximum)))
    largest, spikes = stats.absolute_maximum, stats.spikes()
    noise = float(clipping_errors(bins, weights, np.array([bound]), levels=levels, largest=largest, spikes=spikes)[0])
    return 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else math.inf


def best_method(
    stats: TensorStatistics,
    methods: Sequence[str] | None = None,
    *,
    percentile: float = 99.99,
    levels: int = LEVELS,
) -> tuple[str, float]:
    """Return the method, and its bound, with the least :func:`quantization_error`; the first one of equals.

    Args:
        stats: What was seen.
        methods: Which to try; all if ``None``.
        percentile: For ``percentile``.
        levels: Steps on each side of zero.
    """
    names = threshold_methods() if methods is None else methods
    bounds = [(name, threshold(stats, name, percentile=percentile, levels=levels)) for name in names]
    usable = [(name, bound) for name, bound in bounds if bound > 0]
    if not usable:
        return bounds[0]
    return min(usable, key=lambda pair: quantization_error(stats, pair[1], levels=levels))
