"""The saliency gate and the global context, which all forms but the reference share.

before: S = Wg (Wk X + bk) + bg,  G = sum_n A V,  V = Wv X + bv
after:  S = (Wg Wk) X             the biases are constant over n and cancel in the softmax
        P = sum_n A X             the attention weights sum to one, so the value projection moves behind the sum
        G[h] = Wv[h] P[h] + bv[h]

C^2 N multiply-accumulates become C^2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from linglos_deploy.exporters.decompositions.folds import absorb_bias, centre
from linglos_deploy.exporters.decompositions.gate import Gate
from linglos_deploy.exporters.decompositions.weights import constant


class Saliency(nn.Module):
    """``softmax_n((Wg Wk) X)``: batch x C x N to batch x h x N."""

    def __init__(self, gate: Gate, *, dtype: torch.dtype, sums_to_one: bool = False) -> None:
        super().__init__()
        self.weight = constant(centre(gate.scores) if sums_to_one else gate.scores, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Weigh the positions."""
        return (self.weight @ x).softmax(dim=-1)


class Context(nn.Module):
    """``Wv[h] P[h] + bv[h]`` for all heads: P, batch x h x C, to batch x 1 x C."""

    def __init__(self, gate: Gate, *, dtype: torch.dtype, sums_to_one: bool = False) -> None:
        super().__init__()
        weight = absorb_bias(gate.Wv, gate.bv) if sums_to_one else gate.Wv
        self.channels = gate.channels
        self.weight = constant(weight.reshape(gate.heads, -1, gate.channels).transpose(1, 2), dtype)  # h x C x C/h
        bias = None if sums_to_one else gate.bv.reshape(gate.heads, 1, -1)
        self.bias = None if bias is None or not bias.any() else constant(bias, dtype)

    def forward(self, pooled: Tensor) -> Tensor:
        """Project what was pooled."""
        context = pooled.unsqueeze(2) @ self.weight
        if self.bias is not None:
            context = context + self.bias
        return context.reshape(-1, 1, self.channels)
