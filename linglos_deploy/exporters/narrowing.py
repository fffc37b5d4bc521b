"""Constants in 16 bits: what becomes of infinities, of huge and of tiny numbers, and whether a constant survives."""

from __future__ import annotations

from enum import Enum

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Array = npt.NDArray[np.generic]

LARGEST = {ir.DataType.FLOAT16: 65504.0, ir.DataType.BFLOAT16: 3.3895313892515355e38}
"""The largest finite number of each 16-bit type."""
SMALLEST_NORMAL = {ir.DataType.FLOAT16: 2.0**-14, ir.DataType.BFLOAT16: 2.0**-126}
"""The smallest number of each type that still has all its digits."""
_UNIT_ROUNDOFF = {ir.DataType.FLOAT16: 2.0**-11, ir.DataType.BFLOAT16: 2.0**-8}

_PIECE = 1 << 20
"""Values looked at together, so that large weights need no second copy in float64."""


class Loss(Enum):
    """What a constant loses in 16 bits."""

    NOTHING = "nothing but a rounding"
    TINY = "numbers too small for 16 bits"
    HUGE = "finite numbers too large for 16 bits"


def loss(values: Array, kind: ir.DataType) -> Loss:
    """Return what ``values`` lose in a 16-bit type beyond its unit roundoff.

    Infinities and NaN lose nothing. Tiny numbers among larger ones are no loss: the error is taken of all values
    together, root of sums of squares, and must stay within twice the unit roundoff.
    """
    flat = np.asarray(values, dtype=np.float32).reshape(-1)
    pieces = [flat[start : start + _PIECE] for start in range(0, flat.size, _PIECE)]
    largest = max((float(np.abs(piece[np.isfinite(piece)]).max(initial=0.0)) for piece in pieces), default=0.0)
    if largest == 0.0:
        return Loss.NOTHING
    if not np.isfinite(narrow(np.asarray(largest), kind).astype(np.float64)):
        return Loss.HUGE
    noise = signal = 0.0
    for piece in pieces:
        exact = piece[np.isfinite(piece)].astype(np.float64)
        rounded = narrow(exact, kind).astype(np.float64)
        noise += float(np.square((rounded - exact) / largest).sum())  # over the largest: squares of 1e-30 are kept
        signal += float(np.square(exact / largest).sum())
    return Loss.TINY if noise > (2 * _UNIT_ROUNDOFF[kind]) ** 2 * signal else Loss.NOTHING


def narrow(values: Array, kind: ir.DataType) -> Array:
    """Return ``values`` in a 16-bit type: rounded to nearest, infinities kept, finite numbers beyond it infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(values, dtype=np.float32).astype(kind.numpy())
