"""Inputs that no data set holds: nothing at all, extremes, one channel alone, noise. What real images hide, they show.

A clip that only saturated pixels reach, two colours swapped where every image is grey, a branch that is taken for
another size: a graph whose wiring nothing proves must answer to these as its reference does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from linglos_deploy.signature import Batch, ModelSignature

SIDES = (2, 3)
"""Axes of height and width in images of channels first."""

OTHER_SIZE, TALLER = "other size", "taller"
"""Names of the sets of images of another size."""

Array = npt.NDArray[Any]


def extreme_inputs(sample: Batch, *, seed: int = 0) -> dict[str, Array]:
    """Return ten samples that span what was seen: zero, both ends, single channels, stripes, noise, negatives.

    Args:
        sample: Real inputs, N x ... each; their types, sizes and ranges are kept.
        seed: Of the noise.
    """
    rng = np.random.default_rng(seed)
    return {name: _extremes(np.asarray(values), rng) for name, values in sample.items()}


def resized_noise(
    sample: Batch, signature: ModelSignature, divisor: int, *, seed: int = 0
) -> dict[str, dict[str, Array]]:
    """Return two noise images of each other height and width, by its name; none where the model does not take them.

    Args:
        sample: Real inputs.
        signature: Of the model; its height and width must both be open.
        divisor: Heights and widths must be multiples of this.
        seed: Of the noise.
    """
    if len(signature.inputs) != 1:
        return {}
    (spec,), (values,) = signature.inputs, sample.values()
    if spec.shape is None or len(spec.shape) != 4 or any(isinstance(spec.shape[axis], int) for axis in SIDES):
        return {}
    height, width = (values.shape[axis] for axis in SIDES)
    low, high = values.min(), values.max()
    made = {}
    for name, size in other_sizes((height, width), divisor).items():
        noise = np.random.default_rng(seed).uniform(low, high, (2, values.shape[1], *size))
        made[name] = {spec.name: noise.astype(values.dtype)}
    return made


def other_sizes(size: tuple[int, int], divisor: int) -> dict[str, tuple[int, int]]:
    """Return heights and widths near ``size``, by name: each side once smaller and once larger, neither a square.

    >>> other_sizes((224, 224), 32)
    {'other size': (192, 288), 'taller': (288, 192)}
    """
    height, width = size
    low = (height - divisor if height > divisor else height + divisor), width + 2 * divisor
    high = height + 2 * divisor, (width - divisor if width > divisor else width + divisor)
    return {OTHER_SIZE: low, TALLER: high}


def _extremes(values: Array, rng: np.random.Generator) -> Array:
    shape, low, high = values.shape[1:], values.min(), values.max()
    rows = [
        np.zeros(shape) if low <= 0 <= high else np.full(shape, low),
        np.full(shape, low),
        np.full(shape, high),
        *(_one_channel(shape, low, high, channel) for channel in (0, -1)),
        np.where(np.indices(shape).sum(axis=0) % 2, high, low) if shape else np.full(shape, high),
        *(_noise(shape, low, high, values.dtype, rng) for _ in range(3)),
        low + (high - values[0].astype(np.float64)),
    ]
    return np.stack(rows).astype(values.dtype)


def _one_channel(shape: Sequence[int], low: float, high: float, channel: int) -> Array:
    """Return the lowest value everywhere but in one channel, where a channel is a place along the shortest axis."""
    values = np.full(shape, low, dtype=np.float64)
    if shape:
        np.moveaxis(values, int(np.argmin(shape)), 0)[channel] = high
    return values


def _noise(shape: Sequence[int], low: float, high: float, dtype: npt.DTypeLike, rng: np.random.Generator) -> Array:
    if np.issubdtype(dtype, np.floating):
        return rng.uniform(low, high, shape)
    return rng.integers(int(low), int(high), shape, endpoint=True)
