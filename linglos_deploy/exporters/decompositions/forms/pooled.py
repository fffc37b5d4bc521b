"""Pooled form: the value projection sees one vector per head instead of every position.

before: G = sum_n A (Wv X + bv),  Y = Wo ((Wk X + bk) * G) + bo                       3 C^2 N
after:  P = sum_n A X,  G[h] = Wv[h] P[h] + bv[h],  Y = Wo ((Wk X + bk) * G) + bo     2 C^2 N + C^2

Both C x C maps that see every position keep constant weights, so they stay layers that INT8 can take.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from linglos_deploy.exporters.decompositions.context import Context, Saliency
from linglos_deploy.exporters.decompositions.folds import absorb_bias
from linglos_deploy.exporters.decompositions.form import AttentionSize, Form
from linglos_deploy.exporters.decompositions.gate import Gate
from linglos_deploy.exporters.decompositions.weights import constant, pointwise


class PooledMap(nn.Module):
    """The pooled form on batch x C x H x W; key and output projection are 1x1 convolutions."""

    def __init__(self, gate: Gate, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.gate = Saliency(gate, dtype=dtype)
        self.context = Context(gate, dtype=dtype)
        self.key = pointwise(gate.Wk, gate.bk, dtype=dtype)
        self.out = pointwise(gate.Wo, gate.bo, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Attend; same shape out."""
        positions = x.flatten(2)
        pooled = self.gate(positions) @ positions.transpose(1, 2)
        context = self.context(pooled).reshape(-1, x.shape[1], 1, 1)
        attended: Tensor = self.out(self.key(x) * context)
        return attended


class PooledTokens(nn.Module):
    """The pooled form on batch x N x C.

    Args:
        gate: The tensors.
        dtype: Element type of the weights.
        sums_to_one: Whether the channels of every position sum to one; see :mod:`..folds`.
    """

    def __init__(self, gate: Gate, *, dtype: torch.dtype = torch.float32, sums_to_one: bool = False) -> None:
        super().__init__()
        self.gate = Saliency(gate, dtype=dtype, sums_to_one=sums_to_one)
        self.context = Context(gate, dtype=dtype, sums_to_one=sums_to_one)
        self.key = constant((absorb_bias(gate.Wk, gate.bk) if sums_to_one else gate.Wk).T, dtype)
        self.key_bias = constant(gate.bk, dtype) if not sums_to_one and gate.bk.any() else None
        self.out = constant(gate.Wo.T, dtype)
        self.out_bias = constant(gate.bo, dtype) if gate.bo.any() else None

    def forward(self, x: Tensor) -> Tensor:
        """Attend; same shape out."""
        context = self.context(self.gate(x.transpose(1, 2)) @ x)
        key = x @ self.key
        if self.key_bias is not None:
            key = key + self.key_bias
        attended: Tensor = (key * context) @ self.out
        if self.out_bias is not None:
            attended = attended + self.out_bias
        return attended


def _macs(size: AttentionSize) -> int:
    C, h, N = size.channels, size.heads, size.positions
    return 2 * C * C * N + C * C + 2 * h * C * N


def _why(size: AttentionSize) -> str:
    C, N = size.channels, size.positions
    return f"{N} positions are too few to repay a {C} x {C} x {C} product"


FORM = Form(on_maps=PooledMap, on_tokens=PooledTokens, macs=_macs, constant_weights=True, why=_why)
