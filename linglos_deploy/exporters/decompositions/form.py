"""What a form of key-only attention says about itself, so that nothing else has to know it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from linglos_deploy.exporters.decompositions.gate import Gate


@dataclass(frozen=True, slots=True)
class AttentionSize:
    """What the cost of an attention depends on: C, h and N at the nominal resolution."""

    channels: int
    heads: int
    positions: int


class MakeOnMaps(Protocol):
    """Makes a form on maps."""

    def __call__(self, gate: Gate, *, dtype: torch.dtype) -> nn.Module:
        """Return a module from batch x C x H x W to the same shape, with weights of type ``dtype``."""
        ...


class MakeOnTokens(Protocol):
    """Makes a form on tokens."""

    def __call__(self, gate: Gate, *, dtype: torch.dtype, sums_to_one: bool = False) -> nn.Module:
        """Return a module from batch x N x C to the same shape, with weights of type ``dtype``.

        Args:
            gate: The tensors.
            dtype: Element type of the weights.
            sums_to_one: Whether the channels of every position sum to one, because 1/C was added to channels that sum
                to zero; see :mod:`.folds`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write key-only attention down.

    Attributes:
        on_maps: Makes it for maps.
        on_tokens: Makes it for tokens.
        macs: Multiply-accumulates of one attention and one image.
        constant_weights: Whether all products over the positions have constant weights, so that INT8 can take them.
        why: The reason to choose it where it is the cheapest, for the record in the graph.
    """

    on_maps: MakeOnMaps
    on_tokens: MakeOnTokens
    macs: Callable[[AttentionSize], int]
    constant_weights: bool
    why: Callable[[AttentionSize], str]
