"""Symmetric rounding to small integers, and the scales it uses.

A scale ``s`` stands for the grid ``s * q``, q from -limit to limit; ``q = round(x / s)``, halves to even, as
QuantizeLinear in the ONNX operator documentation says.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from linglos_deploy.choices import Precision

ACTIVATION_LIMIT = 127
STEPS = 255
"""Steps between the smallest and the largest 8-bit integer."""
_LARGEST_BIAS = 2.0**30
"""Largest magnitude of a bias in steps of the sum: as much room again is left for the sum itself."""
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


def grid_between(low: float, high: float, *, dtype: npt.DTypeLike = np.float32) -> tuple[float, int]:
    """Return the scale and the zero point of 256 steps from ``low`` to ``high``, zero among them.

    Args:
        low: Smallest value that is kept, at most 0.
        high: Largest value that is kept, at least 0.
        dtype: Whose number the scale is; see :func:`scales_for`.

    Returns:
        The scale, and the integer from 0 to 255 that stands for zero.

    >>> grid_between(-1.0, 254.0)
    (1.0, 1)
    """
    scale = float(scales_for(high - low, limit=STEPS, dtype=dtype))
    return scale, int(np.clip(np.rint(-low / scale), 0, STEPS))


def weight_scales(
    weight: npt.NDArray[np.floating], *, axis: int, limit: int, dtype: npt.DTypeLike = np.float32
) -> npt.NDArray[np.float32]:
    """Return one scale per output channel of a weight.

    Args:
        weight: Finite values, of any shape.
        axis: Its axis of output channels.
        limit: Largest quantized magnitude, at most 127.
        dtype: Whose numbers the scales are; see :func:`scales_for`.
    """
    return scales_for(_channel_bounds(weight, axis), limit=limit, dtype=dtype)


def bias_fits(bias: npt.NDArray[Any], weight: npt.NDArray[Any], *, axis: int, limit: int, data: float) -> bool:
    """Return whether a bias can be counted in steps of the sums that it is added to, in 32 bits.

    Args:
        bias: One value per output channel.
        weight: The weight, whose channels of zeros may have any scale.
        axis: Its axis of output channels.
        limit: Its largest quantized magnitude.
        data: Scale of the activation.
    """
    bounds = _channel_bounds(weight, axis)
    room = scales_for(bounds, limit=limit).astype(np.float64) * data * _LARGEST_BIAS
    return bool((np.isfinite(bias) & ((np.abs(bias) <= room) | (bounds == 0))).all())


def quantize_bias(bias: npt.NDArray[np.floating], scales: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    """Round a bias that fits to the steps of the 32-bit sum that it is added to.

    Args:
        bias: Finite values, one per output channel.
        scales: The product of the scales of activation and weight, as many.
    """
    return np.rint(np.asarray(bias, np.float64) / scales.astype(np.float64)).astype(np.int32)


def scales_under_bias(
    scales: npt.NDArray[np.float32],
    weight: npt.NDArray[np.floating],
    bias: npt.NDArray[np.floating],
    *,
    axis: int,
    data: float,
) -> npt.NDArray[np.float32]:
    """Return scales of a weight whose channels of zeros leave room for the bias.

    A channel of zeros comes of a folded norm that learned to ignore it; all that is left of it is the bias.

    Args:
        scales: What :func:`weight_scales` gives.
        weight: The weight.
        bias: One value per output channel.
        axis: The weight's axis of output channels.
        data: Scale of the activation.
    """
    needed = (np.abs(bias.astype(np.float64)) / (data * _LARGEST_BIAS)).astype(np.float32)
    return np.where(_channel_bounds(weight, axis) == 0, np.maximum(scales, 2 * needed), scales)


def quantize_weight(
    weight: npt.NDArray[np.floating], scales: npt.NDArray[np.float32], *, axis: int, limit: int
) -> npt.NDArray[np.int8]:
    """Round a weight to the steps of its output channels.

    Args:
        weight: Finite values, of any shape.
        scales: One per output channel.
        axis: Its axis of output channels.
        limit: Largest quantized magnitude, at most 127.

    Returns:
        The integers, of the shape of ``weight``.
    """
    values = np.asarray(weight, dtype=np.float32)
    grid = scales.reshape([-1 if index == axis else 1 for index in range(values.ndim)])
    integers: npt.NDArray[np.int8] = np.clip(np.rint(values / grid), -limit, limit).astype(np.int8)
    return integers


def _channel_bounds(weight: npt.NDArray[np.floating], axis: int) -> npt.NDArray[np.float32]:
    values = np.asarray(weight, dtype=np.float32)
    others = tuple(index for index in range(values.ndim) if index != axis)
    bounds: npt.NDArray[np.float32] = np.abs(values).max(axis=others, initial=0.0)
    return bounds
