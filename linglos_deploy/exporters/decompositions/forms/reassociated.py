"""Reassociated form: once the context is known, what is left is one C x C map per sample.

before: Y = Wo ((Wk X + bk) * G) + bo                              2 C^2 N
after:  M = Wo diag(G) Wk,  c = Wo (G * bk) + bo,  Y = M X + c     C^2 N + C^3

Pays where there are more positions than channels. M depends on the input, so this form stays in floating point.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from linglos_deploy.exporters.decompositions.context import Context, Saliency
from linglos_deploy.exporters.decompositions.folds import absorb_bias
from linglos_deploy.exporters.decompositions.form import AttentionSize, Form
from linglos_deploy.exporters.decompositions.gate import Gate
from linglos_deploy.exporters.decompositions.weights import constant


class ReassociatedMap(nn.Module):
    """The reassociated form on batch x C x H x W."""

    def __init__(self, gate: Gate, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.gate = Saliency(gate, dtype=dtype)
        self.context = Context(gate, dtype=dtype)
        self.key = constant(gate.Wk, dtype)
        self.out = constant(gate.Wo, dtype)
        self.key_bias = constant(gate.bk[:, None], dtype) if gate.bk.any() else None
        self.out_bias = constant(gate.bo[:, None], dtype) if gate.bo.any() else None

    def forward(self, x: Tensor) -> Tensor:
        """Attend; same shape out."""
        positions = x.flatten(2)
        pooled = self.gate(positions) @ positions.transpose(1, 2)
        gated = self.out * self.context(pooled)  # Wo diag(G), per sample
        attended: Tensor = (gated @ self.key) @ positions
        if self.key_bias is not None:
            constant_part = gated @ self.key_bias
            attended = attended + (constant_part if self.out_bias is None else constant_part + self.out_bias)
        elif self.out_bias is not None:
            attended = attended + self.out_bias
        return attended.reshape(x.shape)


class ReassociatedTokens(nn.Module):
    """The reassociated form on batch x N x C.

    Args:
        gate: The tensors.
        dtype: Element type of the weights.
        sums_to_one: Whether the channels of every position sum to one; see :mod:`..folds`. All biases then travel
            inside the map: ``(Wk P + bk 1^T)`` carries bk through diag(G) and Wo, and bo is added to every row of M^T.
    """

    def __init__(self, gate: Gate, *, dtype: torch.dtype = torch.float32, sums_to_one: bool = False) -> None:
        super().__init__()
        self.sums_to_one = sums_to_one
        self.gate = Saliency(gate, dtype=dtype, sums_to_one=sums_to_one)
        self.context = Context(gate, dtype=dtype, sums_to_one=sums_to_one)
        self.key = constant((absorb_bias(gate.Wk, gate.bk) if sums_to_one else gate.Wk).T, dtype)
        self.key_bias = constant(gate.bk, dtype) if not sums_to_one and gate.bk.any() else None
        self.out = constant(gate.Wo.T, dtype)
        self.out_bias = constant(gate.bo, dtype) if gate.bo.any() else None

    def forward(self, x: Tensor) -> Tensor:
        """Attend; same shape out."""
        context = self.context(self.gate(x.transpose(1, 2)) @ x)
        combined = (self.key * context) @ self.out  # M^T, per sample
        if self.sums_to_one and self.out_bias is not None:
            combined = combined + self.out_bias
        attended: Tensor = x @ combined
        if self.sums_to_one:
            return attended
        if self.key_bias is not None:
            constant_part = (context * self.key_bias) @ self.out
            attended = attended + (constant_part if self.out_bias is None else constant_part + self.out_bias)
        elif self.out_bias is not None:
            attended = attended + self.out_bias
        return attended


def _macs(size: AttentionSize) -> int:
    C, h, N = size.channels, size.heads, size.positions
    return C * C * N + C**3 + 2 * C * C + 2 * h * C * N


def _why(size: AttentionSize) -> str:
    C, N = size.channels, size.positions
    return f"one {C} x {C} product per position instead of two repays building it: {N} positions"


FORM = Form(on_maps=ReassociatedMap, on_tokens=ReassociatedTokens, macs=_macs, constant_weights=False, why=_why)
