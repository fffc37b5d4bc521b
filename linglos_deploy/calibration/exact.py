"""Sums of floating-point numbers that come out the same in any order: integers in units so small that nothing rounds.

Every float32 is a multiple of 2^-149, and so is every float64 that float32 numbers add up to, because rounding moves
only to coarser multiples. Squares are multiples of 2^-298. Python's integers have no limit, so adding never rounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

SUM_UNIT = -149
"""Exponent of two of the unit in which sums of float32 values are kept."""

SQUARE_UNIT = -298
"""Exponent of two of the unit in which sums of their squares are kept."""

_MANTISSA_BITS = 53


def to_units(values: Iterable[float], unit: int) -> int:
    """Return the exact sum of ``values`` in units of ``2**unit``.

    Args:
        values: Finite numbers, each a multiple of ``2**unit``.
        unit: :data:`SUM_UNIT` or :data:`SQUARE_UNIT`.

    >>> to_units([1e30, 1.0, -1e30], SUM_UNIT) == to_units([1.0], SUM_UNIT)
    True
    """
    total = 0
    for value in values:
        mantissa, exponent = math.frexp(value)
        shift = exponent - _MANTISSA_BITS - unit
        whole = int(math.ldexp(mantissa, _MANTISSA_BITS))
        total += whole << shift if shift >= 0 else whole >> -shift
    return total


def from_units(total: int, unit: int, *, count: int = 1) -> float:
    """Return ``total * 2**unit / count``, rounded once; 0.0 if ``count`` is 0."""
    if count == 0:
        return 0.0
    numerator, denominator = total, count
    if unit < 0:
        denominator <<= -unit
    else:
        numerator <<= unit
    return numerator / denominator  # integer division of any size rounds correctly
