"""The whole pre-normalized layer around key-only attention, in the layout that its runtimes like best.

before: x -> T -> LN -> T -> attention -> + x -> T -> LN -> T -> MLP -> +
after:  x -> T -> LN' -> attention on tokens -> + -> LN' -> T -> MLP -> T -> + -> T      (TokenLayer)
        x -> T -> LN' -> T -> attention on maps -> + x -> T -> LN' -> T -> MLP   (MapLayer, for INT8)

LN' has no affine part: it is folded into the maps behind it. On tokens both shortcuts need no layout change of their
own, and every product of the attention reads what LN' wrote. The MLP stays a pair of convolutions: on ONNX Runtime and
OpenVINO they beat the same products as matrix multiplications. docs/decisions/layout.md has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from linglos_deploy.errors import ExportError
from linglos_deploy.exporters.decompositions.folds import fold_affine, fold_affine_into_gate
from linglos_deploy.exporters.decompositions.form import Form
from linglos_deploy.exporters.decompositions.gate import Gate, matrix, read_gate, vector
from linglos_deploy.exporters.decompositions.weights import constant, pointwise
from linglos_deploy.models.attention import Norm, SaliencyLayer


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer with its normalizations folded: float64 matrices."""

    gate: Gate
    eps1: float
    eps2: float
    W1: Tensor
    b1: Tensor
    W2: Tensor
    b2: Tensor


def read_layer(layer: SaliencyLayer) -> Layer:
    """Turn what a module said about itself into matrices, and fold the normalizations' affine parts.

    Raises:
        ExportError: A tensor has another shape than the formulas ask for.
    """
    gate = read_gate(layer.attention)
    channels = gate.channels
    gamma1, beta1 = _affine(layer.norm1, channels)
    gamma2, beta2 = _affine(layer.norm2, channels)
    first, second = matrix(layer.expand), matrix(layer.project)
    if first.shape[1] != channels or second.shape != first.T.shape:
        raise ExportError(f"the MLP's weights are {tuple(first.shape)} and {tuple(second.shape)}")
    W1, b1 = fold_affine(first, vector(layer.expand_bias, len(first), name="expand_bias"), gamma=gamma2, beta=beta2)
    return Layer(
        gate=fold_affine_into_gate(gate, gamma=gamma1, beta=beta1),
        eps1=layer.norm1.eps,
        eps2=layer.norm2.eps,
        W1=W1,
        b1=b1,
        W2=second,
        b2=vector(layer.project_bias, channels, name="project_bias"),
    )


def _affine(norm: Norm, channels: int) -> tuple[Tensor, Tensor]:
    gamma = torch.ones(channels, dtype=torch.float64)
    if norm.weight is not None:
        gamma = vector(norm.weight, channels, name="norm weight")
    return gamma, vector(norm.bias, channels, name="norm bias")


class PlainNorm(nn.Module):
    """LayerNorm over the last axis without an affine part, or with 1/C as its bias."""

    def __init__(self, channels: int, eps: float, *, dtype: torch.dtype, sums_to_one: bool = False) -> None:
        super().__init__()
        self.eps = eps
        self.weight = constant(torch.ones(channels), dtype)
        self.bias = constant(torch.full((channels,), 1 / channels, dtype=torch.float64), dtype) if sums_to_one else None

    def forward(self, x: Tensor) -> Tensor:
        """Normalize; same shape out."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class TokenLayer(nn.Module):
    """The layer with the attention and the residual stream between its halves as batch x N x C."""

    def __init__(
        self, layer: Layer, form: Form, *, dtype: torch.dtype = torch.float32, sums_to_one: bool = True
    ) -> None:
        super().__init__()
        channels = layer.gate.channels
        self.norm1 = PlainNorm(channels, layer.eps1, dtype=dtype, sums_to_one=sums_to_one)
        self.attention = form.on_tokens(layer.gate, dtype=dtype, sums_to_one=sums_to_one)
        self.norm2 = PlainNorm(channels, layer.eps2, dtype=dtype)
        self.mlp = _mlp(layer, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Map batch x C x H x W to the same shape."""
        height, width = x.shape[2:]
        tokens = x.permute(0, 2, 3, 1).flatten(1, 2)
        tokens = tokens + self.attention(self.norm1(tokens))
        normed = self.norm2(tokens).unflatten(1, (height, width)).permute(0, 3, 1, 2)
        mixed: Tensor = tokens + self.mlp(normed).permute(0, 2, 3, 1).flatten(1, 2)
        return mixed.reshape(x.shape[0], height, width, -1).permute(0, 3, 1, 2)


class MapLayer(nn.Module):
    """The layer with convolutions wherever the weights are constant."""

    def __init__(self, layer: Layer, form: Form, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        channels = layer.gate.channels
        self.norm1 = PlainNorm(channels, layer.eps1, dtype=dtype)
        self.attention = form.on_maps(layer.gate, dtype=dtype)
        self.norm2 = PlainNorm(channels, layer.eps2, dtype=dtype)
        self.mlp = _mlp(layer, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Map batch x C x H x W to the same shape."""
        x = x + self.attention(self._normed(self.norm1, x))
        mixed: Tensor = x + self.mlp(self._normed(self.norm2, x))
        return mixed

    def _normed(self, norm: nn.Module, x: Tensor) -> Tensor:
        normed: Tensor = norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return normed


def _mlp(layer: Layer, dtype: torch.dtype) -> nn.Sequential:
    return nn.Sequential(
        pointwise(layer.W1, layer.b1, dtype=dtype), nn.GELU(), pointwise(layer.W2, layer.b2, dtype=dtype)
    )
