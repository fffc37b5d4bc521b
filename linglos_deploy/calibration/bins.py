"""The bins of every histogram: the upper 16 bits of a float32, which is a bfloat16.

65 536 bins that need no range beforehand. A bin of a normal number is at most 1/128 of its own value wide, and an
integer sum merges two histograms.

Bit layout of a bin index: sign (1 bit), exponent (8 bits), first 7 bits of the mantissa. The lower half
(``0 ... 0x7FFF``) holds the values without a sign bit in rising order, the upper half the negative ones in falling
order. Indices with all exponent bits set hold infinities and NaNs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BIN_COUNT = 1 << 16
SIGN_BIT = 1 << 15
FIRST_NON_FINITE = 0x7F80
"""Index, without its sign bit, of the first bin that holds no finite value."""

LIMIT = float(np.float64(2.0) ** 128)
"""Upper edge of the last finite bin: the first power of two that float32 cannot hold."""


def upper_halves(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the bin of every value, as a view of ``values``.

    Args:
        values: float32, one axis, contiguous.

    Returns:
        uint16 of the same length, a strided view.
    """
    halves = values.view(np.uint16)
    return halves[1::2] if np.little_endian else halves[0::2]


def lower_edges(bins: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the smallest magnitude in each bin, without the sign: float64, exact."""
    magnitudes = np.asarray(bins).astype(np.uint32) & np.uint32(SIGN_BIT - 1)
    edges = (magnitudes << np.uint32(16)).view(np.float32).astype(np.float64)
    return np.where(magnitudes == FIRST_NON_FINITE, LIMIT, edges)


def upper_edges(bins: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the magnitude at which the next bin starts: float64, exact."""
    return lower_edges((np.asarray(bins).astype(np.uint32) & np.uint32(SIGN_BIT - 1)) + np.uint32(1))


def bin_of(value: float) -> int:
    """Return the bin that ``value``, rounded to float32, falls into.

    >>> hex(bin_of(1.0)), hex(bin_of(-1.0))
    ('0x3f80', '0xbf80')
    """
    return int(upper_halves(np.array([value], dtype=np.float32))[0])


def magnitude_bin(value: float) -> int:
    """Return the bin of ``|value|``."""
    return bin_of(abs(value))


def non_finite(bins: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return which bins hold infinities or NaNs."""
    return (np.asarray(bins).astype(np.uint32) & np.uint32(SIGN_BIT - 1)) >= FIRST_NON_FINITE


def fold_signs(bins: NDArray[np.integer], counts: NDArray[np.int64]) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """Turn a histogram of values into one of their magnitudes, without infinities and NaNs.

    Args:
        bins: Bin indices, rising.
        counts: int64, one per bin.

    Returns:
        Bins and counts of the magnitudes, in rising order, occupied bins only.
    """
    finite = ~non_finite(bins)
    magnitudes = (np.asarray(bins)[finite].astype(np.uint32) & np.uint32(SIGN_BIT - 1)).astype(np.uint16)
    folded, position = np.unique(magnitudes, return_inverse=True)
    totals = np.zeros(len(folded), dtype=np.int64)
    np.add.at(totals, position, np.asarray(counts, dtype=np.int64)[finite])
    return folded, totals
