"""What chance explains when a share of images, or a mean over images, is looked at twice."""

from __future__ import annotations

import math

SURE = 3.0
"""Standard errors by which the mean over other images may differ."""

SHARE_SURE = 2.0
"""Standard errors by which a share of images may differ: on other images one comparison in forty would fall lower by
chance, on the same images hardly any, for what is hard for one model is hard for the next."""


def mean_allowed(std: float, count: int, other_std: float, other_count: int) -> float:
    """Return how far the means of two sets of images may lie apart, from the spread within both.

    >>> round(mean_allowed(2.0, 100, 2.0, 100), 3)
    0.849
    """
    return SURE * math.sqrt(std**2 / max(count, 1) + other_std**2 / max(other_count, 1))


def share_allowed(old: tuple[float, int], new: tuple[float, int]) -> float:
    """Return how far two shares of independent samples may lie apart by chance.

    The standard error of a difference of two proportions, from both together with one hit and one miss added
    (Agresti and Caffo, The American Statistician 54(4), 2000, add two of each to every sample).

    >>> round(share_allowed((1.0, 5000), (1.0, 5000)), 4)
    0.0004
    """
    (first, count), (second, other) = old, new
    pooled = (first * count + second * other + 1) / (count + other + 2)
    return SHARE_SURE * math.sqrt(pooled * (1 - pooled) * (1 / max(count, 1) + 1 / max(other, 1)))
