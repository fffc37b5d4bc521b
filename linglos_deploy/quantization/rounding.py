"""Symmetric rounding to small integers, and the scales it uses.

A scale ``s`` stands for the grid ``s * q``, q from -limit to limit; ``q = round(x / s)``, halves to even, as
QuantizeLinear in the ONNX operator documentation says.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import numpy.typing as npt

from linglos_deploy.choices import Precision

ACTIVATION_LIMIT = 127
_OF_ZEROS = 2.0**-24
"""The scale of a channel of zeros: any number would do that every element type has."""
_TYPES: dict[Precision, np.dtype] = {
    Precision.FP32: np.dtype(np.float32),
    Precision.FP16: np.dtype(np.float16),
    Precision.BF16: np.dtype(ml_dtypes.bfloat16),
}


def scale_type(graph: np.dtype, floating: Precision) -> np.dtype:
    """Return the element type whose numbers scales must be.

    Args:
        graph: Floating-point type of the tensor in the graph.
        floating: The type that float32 parts of the graph will have in the end.
    """
    return _TYPES[floating] if graph == np.float32 else np.dtype(graph)


def scales_for(bounds: npt.ArrayLike, *, limit: int, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[np.float32]:
    """Return the scales whose grids just reach ``bounds``.

    Scales are rounded up to numbers of ``dtype``: a graph whose scales are turned into that type later has the same
    grid to the bit. They are at least the smallest number that no runtime flushes to zero, 2**-126, or 2**-24 for
    float16, which is the distance between the smallest float16 weights too; bounds of zero get 2**-24.

    Args:
        bounds: Largest magnitudes, finite and not negative, of any shape.
        limit: Largest quantized magnitude.
        dtype: float32, float16 or bfloat16.

    Returns:
        Positive, finite float32, of the shape of ``bounds``.

    >>> float(scales_for(127.0, limit=127))
    1.0
    """
    kind = np.dtype(dtype)
    limits = ml_dtypes.finfo(kind)  # type: ignore[no-untyped-call]
    smallest, largest = limits.smallest_subnormal if kind == np.float16 else limits.smallest_normal, limits.max
    exact = np.asarray(bounds, dtype=np.float64) / limit
    wanted = np.clip(exact, float(smallest), float(largest))
    rounded = wanted.astype(kind)
    too_small = rounded.astype(np.float64) < wanted
    up = np.where(too_small, np.nextafter(rounded, largest.astype(kind)), rounded)
    return np.where(exact > 0, up.astype(np.float32), np.float32(_OF_ZEROS)).astype(np.float32)


def quantize_weight(
    weight: npt.NDArray[np.floating], *, axis: int, limit: int, dtype: npt.DTypeLike = np.float32
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Round a weight with one scale per output channel.

    Args:
        weight: Finite values, of any shape.
        axis: Its axis of output channels.
        limit: Largest quantized magnitude, at most 127.
        dtype: Whose numbers the scales are; see :func:`scales_for`.

    Returns:
        The integers, of the shape of ``weight``, and one scale per entry of ``axis``.
    """
    values = np.asarray(weight, dtype=np.float32)
    others = tuple(index for index in range(values.ndim) if index != axis)
    scales = scales_for(np.abs(values).max(axis=others, initial=0.0), limit=limit, dtype=dtype)
    grid = scales.reshape([-1 if index == axis else 1 for index in range(values.ndim)])
    return np.clip(np.rint(values / grid), -limit, limit).astype(np.int8), scales
