"""Where an activation is clipped, by which criterion, and what to expect of it: decided from statistics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from linglos_deploy.calibration.thresholds import expected_sqnr, threshold
from linglos_deploy.quantization.rounding import ACTIVATION_LIMIT, STEPS

if TYPE_CHECKING:
    from linglos_deploy.calibration.statistics import TensorStatistics
    from linglos_deploy.quantization.scheme import QuantScheme

PLAIN, WEIGHED = "mse", "weighted"
LEAST_ERROR = (WEIGHED, PLAIN)
"""Methods that a bound may come from although the scheme has another one."""

HOPELESS_DB = 10.0
"""Expected SQNR below which the bound of the scheme's method is given up for the one with the least squared error, and
below which nothing good can be expected of a layer."""

MORE_LEVELS = 150
"""Steps on the longer side of an asymmetric tensor from which its limits are chosen for themselves."""

LEAST_GAIN_DB = 0.25
"""What weighing the channels must promise before its bound is taken: below, independent errors are too rough a model.
On the digits as trained, taking every such bound cost half a decibel, taking those that promise this much none."""


@dataclass(frozen=True, slots=True)
class Range:
    """Where to clip.

    Attributes:
        method: The criterion that the bound is best by.
        bound: Magnitude from which values are clipped; 0.0 where the tensor cannot be quantized.
        expected_db: Signal-to-noise ratio to expect, weighed as the readers weigh the channels; ``inf`` without noise.
        reason: All of it in words.
    """

    method: str
    bound: float
    expected_db: float
    reason: str


def choose_range(
    statistics: TensorStatistics,
    scheme: QuantScheme,
    *,
    levels: int = ACTIVATION_LIMIT,
    unweighed: str | None = None,
) -> Range:
    """Return where to clip a tensor that has finite values above zero.

    Args:
        statistics: What was seen of it.
        scheme: What is asked for.
        levels: Steps on each side of zero.
        unweighed: Why the readers do not tell how much each channel counts, if they do not.
    """
    method, remark = scheme.method, ""
    bound = threshold(statistics, method, percentile=scheme.percentile, levels=levels)
    if bound <= 0:
        return Range(method, 0.0, math.inf, "")
    if method == WEIGHED:
        method, bound, remark = _weighed(statistics, bound, levels, unweighed)
    if (left := expected_sqnr(statistics, bound, levels=levels)) < HOPELESS_DB and method not in LEAST_ERROR:
        method_instead, instead, _ = _weighed(
            statistics, threshold(statistics, WEIGHED, levels=levels), levels, unweighed
        )
        if expected_sqnr(statistics, instead, levels=levels) > left:
            remark = f"{method} would clip at ±{bound:.4g} and leave {left:.1f} dB"
            method, bound = method_instead, instead
    left = expected_sqnr(statistics, bound, levels=levels)
    reason = (
        f"seen from {statistics.minimum:.4g} to {statistics.maximum:.4g}; {method} clips at ±{bound:.4g}, "
        f"expected SQNR {left:.1f} dB"
    )
    return Range(method, bound, left, f"{reason}; {remark}" if remark else reason)


def choose_limits(statistics: TensorStatistics, scheme: QuantScheme, bound: float) -> tuple[float, float]:
    """Return what is kept where any integer may stand for zero.

    Most of the steps then lie on the side that reaches further: as many as a symmetric grid needs for such a step. A
    finer step clips later, so the bound is chosen anew where they differ. The limits are whole steps of that bound, so
    that a value which the bound puts on the grid lies on this grid, too.
    """
    low, high = min(statistics.minimum, 0.0), max(statistics.maximum, 0.0)
    levels = max(round(STEPS * max(-low, high) / (high - low)), ACTIVATION_LIMIT)
    if levels > MORE_LEVELS:
        bound = choose_range(statistics, scheme, levels=levels).bound
    else:
        levels = ACTIVATION_LIMIT
    step, others = bound / levels, STEPS - levels
    if min(-low, high) > others * step:
        return max(low, -bound), min(high, bound)
    return (-bound, others * step) if -low > high else (-others * step, bound)


def _weighed(statistics: TensorStatistics, bound: float, levels: int, unweighed: str | None) -> tuple[str, float, str]:
    """Return the weighed bound, or the plain one where weighing channels does not pay, and a remark on the other."""
    if statistics.groups is None:
        return PLAIN, bound, unweighed or "its channels count alike"  # then both methods find the same bound
    plain = threshold(statistics, PLAIN, levels=levels)
    before, after = expected_sqnr(statistics, plain, levels=levels), expected_sqnr(statistics, bound, levels=levels)
    if after - before < LEAST_GAIN_DB:
        return PLAIN, plain, f"weighing its channels would gain {max(after - before, 0.0):.2f} dB"
    return WEIGHED, bound, f"{PLAIN} would clip at ±{plain:.4g} and leave {before:.1f} dB"
