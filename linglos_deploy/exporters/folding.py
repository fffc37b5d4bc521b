"""Batch normalization disappears into the convolution before it, in float64, on the PyTorch side.

before: y = gamma (conv(x; W, b) - mean) / sqrt(var + eps) + beta
after:  y = conv(x; s W, s (b - mean) + beta),  s = gamma / sqrt(var + eps)
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn


def fold_batch_norms(module: nn.Module) -> int:
    """Fold, in place, every batch norm that directly follows a convolution in an ``nn.Sequential``; return how many.

    Elsewhere the order of execution is not visible from the outside; what is left is folded in the graph.
    """
    uses = _use_counts(module)
    folded = 0
    for parent in module.modules():
        if not isinstance(parent, nn.Sequential) or type(parent).forward is not nn.Sequential.forward:
            continue
        for (_, conv), (name, norm) in pairwise(list(parent.named_children())):
            if uses[id(conv)] == uses[id(norm)] == 1 and _can_fold(conv, norm):
                _fold(cast(nn.Conv2d, conv), cast(nn.BatchNorm2d, norm))
                setattr(parent, name, nn.Identity())
                folded += 1
    return folded


def _use_counts(module: nn.Module) -> dict[int, int]:
    """Return how often each submodule is registered: one that is shared must keep its own weights."""
    counts: dict[int, int] = {}
    for _, child in module.named_modules(remove_duplicate=False):
        counts[id(child)] = counts.get(id(child), 0) + 1
    return counts


def _can_fold(conv: nn.Module, norm: nn.Module) -> bool:
    return (
        type(conv) in {nn.Conv1d, nn.Conv2d, nn.Conv3d}
        and type(norm) in {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d}
        and norm.running_mean is not None
        and norm.num_features == conv.out_channels
        and not any((conv._forward_hooks, conv._forward_pre_hooks, norm._forward_hooks, norm._forward_pre_hooks))
        and not any(hasattr(part, "parametrizations") for part in (conv, norm))
    )


@torch.no_grad()
def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    mean, variance = (_double(norm.get_buffer(name)) for name in ("running_mean", "running_var"))
    scale = (variance + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * _double(norm.weight)
    shift = -mean * scale
    if conv.bias is not None:
        shift = shift + _double(conv.bias) * scale
    if norm.affine:
        shift = shift + _double(norm.bias)
    shape = (-1, *[1] * (conv.weight.dim() - 1))
    dtype = conv.weight.dtype
    conv.weight = nn.Parameter((_double(conv.weight) * scale.reshape(shape)).to(dtype), requires_grad=False)
    conv.bias = nn.Parameter(shift.to(dtype), requires_grad=False)


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().double()
