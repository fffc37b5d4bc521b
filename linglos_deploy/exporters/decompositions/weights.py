"""Matrices as weights of a module that is exported, and never trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def constant(tensor: Tensor, dtype: torch.dtype) -> nn.Parameter:
    """Return a tensor as a weight."""
    return nn.Parameter(tensor.to(dtype).contiguous(), requires_grad=False)


def pointwise(weight: Tensor, bias: Tensor, *, dtype: torch.dtype) -> nn.Conv2d:
    """Return a linear map over channels as a 1x1 convolution; a bias of zeros is left out."""
    rows, columns = weight.shape
    conv = nn.Conv2d(columns, rows, 1, bias=bool(bias.any()), dtype=dtype, device="meta")
    conv.weight = constant(weight[:, :, None, None], dtype)
    if conv.bias is not None:
        conv.bias = constant(bias, dtype)
    return conv
