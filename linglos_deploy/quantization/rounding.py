"""Symmetric rounding to small integers, and the scales it uses.

A scale ``s`` stands for the grid ``s * q``, q from -limit to limit; ``q = round(x / s)``, halves to even, as
QuantizeLinear in the ONNX operator documentation says.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ACTIVATION_LIMIT = 127
_SMALLEST = float(np.finfo(np.float16).smallest_subnormal)
_LARGEST = float(np.finfo(np.float16).max)


def scales_for(bounds: npt.ArrayLike, *, limit: int) -> npt.NDArray[np.float32]:
    """Return the scales whose grids just reach ``bounds``.

    Scales are rounded up to numbers that float16 has too, by 0.1 % or, below 6e-5, by 6e-8 at most: a graph whose
    scales are turned into float16 later, for an engine, then has the same grid to the bit. Bounds of zero get the
    smallest such scale, bounds beyond float16 a plain float32 one.

    Args:
        bounds: Largest magnitudes, finite and not negative, of any shape.
        limit: Largest quantized magnitude.

    Returns:
        Positive, finite float32, of the shape of ``bounds``.

    >>> float(scales_for(127.0, limit=127))
    1.0
    """
    wanted = np.asarray(bounds, dtype=np.float64) / limit
    clipped = np.clip(wanted, _SMALLEST, _LARGEST)
    rounded = clipped.astype(np.float16)
    too_small = rounded.astype(np.float64) < clipped
    up = np.where(too_small, np.nextafter(rounded, np.float16(_LARGEST)), rounded).astype(np.float32)
    beyond = np.nextafter(wanted.astype(np.float32), np.float32(np.inf))  # float16 has nothing there; keep the range
    return np.where(wanted > _LARGEST, np.minimum(beyond, np.finfo(np.float32).max), up).astype(np.float32)


def quantize_weight(
    weight: npt.NDArray[np.floating], *, axis: int, limit: int
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Round a weight with one scale per output channel.

    Args:
        weight: Finite values, of any shape.
        axis: Its axis of output channels.
        limit: Largest quantized magnitude, at most 127.

    Returns:
        The integers, of the shape of ``weight``, and one scale per entry of ``axis``.
    """
    values = np.asarray(weight, dtype=np.float32)
    others = tuple(index for index in range(values.ndim) if index != axis)
    scales = scales_for(np.abs(values).max(axis=others, initial=0.0), limit=limit)
    grid = scales.reshape([-1 if index == axis else 1 for index in range(values.ndim)])
    return np.clip(np.rint(values / grid), -limit, limit).astype(np.int8), scales
