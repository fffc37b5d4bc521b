"""Seeded random weights: good for graphs and latency before training, useless for accuracy.

Batch normalization and LayerNorm get statistics and affine parameters away from their neutral values, so that folding
them into convolutions is exercised; scales keep the activations of a random network near unit size at any depth.

All numbers are uniform: their generation is exact arithmetic, so that weights and digests agree between machines,
which a normal distribution through log and cos would not promise.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import nn

BRANCH_GAIN = 0.25
"""Variance that a residual branch adds, relative to its input: below one, or depth would blow the stream up."""

GELU_GAIN = 2.0
"""Restores the variance that a GELU takes away."""

GATE_SPREAD = 2.0
"""Standard deviation of the saliency: peaked attention, as training gives, instead of an average over positions."""


def random_weights(module: nn.Module, *, seed: int) -> dict[str, torch.Tensor]:
    """Return a state dict for a LinGlo of any size, which may lie on the meta device.

    A tensor depends on the seed, its name and its shape alone: a classifier and a backbone share theirs.
    """
    return {
        name: _values(name, tuple(tensor.shape), tensor.dtype, seed=seed)
        for name, tensor in module.state_dict().items()
    }


def _values(name: str, shape: tuple[int, ...], dtype: torch.dtype, *, seed: int) -> torch.Tensor:
    import torch

    if not dtype.is_floating_point:
        return torch.zeros(shape, dtype=dtype)
    low, high = _bounds(name, shape)
    random = np.random.default_rng([seed, zlib.crc32(name.encode())])
    values = random.random(shape, dtype=np.float32)
    values *= np.float32(high - low)
    values += np.float32(low)
    return torch.from_numpy(values)


def _bounds(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Return the range of the uniform distribution for a parameter or buffer of a LinGlo."""
    if name.endswith("running_var"):
        return 0.5, 1.5
    if len(shape) == 1:
        return (0.75, 1.25) if name.endswith("weight") else (-0.2, 0.2)
    bound = math.sqrt(3 * _gain(name) / math.prod(shape[1:]))  # a uniform number in -b ... b has variance b^2 / 3
    return -bound, bound


def _gain(name: str) -> float:
    """Return the variance of a layer's output, relative to its input's before the GELU in between."""
    if name.endswith("gate.weight"):
        return GATE_SPREAD**2
    if name.startswith("stages") and name.endswith(("project.0.weight", "mlp.2.weight", "attention.out.weight")):
        return GELU_GAIN * BRANCH_GAIN
    return GELU_GAIN if name.endswith(("depthwise.0.weight", "project.0.weight", "stem.2.0.weight")) else 1.0
