"""How a module says that it is key-only attention, so that the export may rewrite it into a cheaper, equal form.

A module takes part by one method, ``saliency_gate()``, that returns its eight tensors in the formulas' own terms:

    K = Wk X + bk          keys                     C x N
    S = Wg K + bg          saliency, one per head   h x N
    A = softmax_n(S)       attention weights        h x N
    V = Wv X + bv          values                   C x N
    G = sum_n A[h,n] V[h,:,n]   global context      C      (per head, then concatenated)
    Y = Wo (K * G) + bo    local key x global context

A layer that wraps it as ``x + attention(norm(x))``, then ``x + mlp(norm(x))`` may say so by ``saliency_layer()``; its
normalizations then fold into the linear maps that read them.

Only the shape of the answer counts: any object with the attributes below will do, so that a training repository need
not import this package. The export runs both forms side by side and keeps a module as it is where they disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True, slots=True)
class SaliencyGate:
    """The tensors of key-only attention. Trailing axes of size one, as 1x1 convolutions have, are allowed.

    Attributes:
        heads: Number of heads h; divides C.
        key: Wk, C x C.
        gate: Wg, h x C; reads the keys.
        value: Wv, C x C.
        out: Wo, C x C.
        key_bias: bk, C, or ``None``.
        gate_bias: bg, h, or ``None``; cancels in the softmax.
        value_bias: bv, C, or ``None``.
        out_bias: bo, C, or ``None``.
        channels_last: Whether X is N x positions x C (or N x H x W x C) instead of N x C x H x W.
    """

    heads: int
    key: Tensor
    gate: Tensor
    value: Tensor
    out: Tensor
    key_bias: Tensor | None = None
    gate_bias: Tensor | None = None
    value_bias: Tensor | None = None
    out_bias: Tensor | None = None
    channels_last: bool = False


@dataclass(frozen=True, slots=True)
class Norm:
    """A layer normalization over channels: ``gamma (x - mean) / sqrt(var + eps) + beta``.

    Attributes:
        weight: gamma, C, or ``None`` for ones.
        bias: beta, C, or ``None`` for zeros.
        eps: Added to the variance.
    """

    weight: Tensor | None
    bias: Tensor | None
    eps: float


@dataclass(frozen=True, slots=True)
class SaliencyLayer:
    """A layer on N x C x H x W: ``y = x + attention(norm1(x))``, then ``y + W2 gelu(W1 norm2(y) + b1) + b2``.

    Attributes:
        attention: The attention; reads channels first.
        norm1: The normalization before the attention.
        norm2: The normalization before the MLP.
        expand: W1, rC x C.
        expand_bias: b1, rC, or ``None``.
        project: W2, C x rC.
        project_bias: b2, C, or ``None``.
    """

    attention: SaliencyGate
    norm1: Norm
    norm2: Norm
    expand: Tensor
    project: Tensor
    expand_bias: Tensor | None = None
    project_bias: Tensor | None = None


@runtime_checkable
class HasSaliencyGate(Protocol):
    """A module that is key-only attention."""

    def saliency_gate(self) -> SaliencyGate:
        """Name the tensors."""
        ...


@runtime_checkable
class HasSaliencyLayer(Protocol):
    """A module that is a pre-normalized layer around key-only attention."""

    def saliency_layer(self) -> SaliencyLayer:
        """Name the tensors."""
        ...
