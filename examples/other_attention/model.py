"""Key-only attention as somebody else might write it: tokens, a fused key-value projection, no biases.

Nothing here imports linglos-deploy. One method, ``saliency_gate``, is all that its export asks for.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor, nn


class FusedAttention(nn.Module):
    """Reads and returns batch x positions x channels."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.key_value = nn.Linear(channels, 2 * channels, bias=False)
        self.score = nn.Linear(channels, heads, bias=False)
        self.project = nn.Linear(channels, channels, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend."""
        key, value = self.key_value(tokens).chunk(2, dim=-1)
        weights = self.score(key).softmax(dim=1)  # batch x positions x heads
        context = torch.einsum("bnh,bnhd->bhd", weights, value.unflatten(-1, (self.heads, -1))).flatten(1)
        return self.project(key * context.unsqueeze(1))

    def saliency_gate(self) -> SimpleNamespace:
        """Name the tensors for the export; a linear layer's weight is already output x input."""
        key, value = self.key_value.weight.chunk(2)
        return SimpleNamespace(
            heads=self.heads,
            key=key,
            gate=self.score.weight,
            value=value,
            out=self.project.weight,
            channels_last=True,
        )


class Block(nn.Module):
    """A pre-normalized layer on batch x positions x channels."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = FusedAttention(channels, heads)
        self.mlp = nn.Sequential(nn.Linear(channels, 3 * channels), nn.GELU(), nn.Linear(3 * channels, channels))

    def forward(self, tokens: Tensor) -> Tensor:
        """Mix globally, then per position."""
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class Tokens(nn.Module):
    """A small classifier: patches of 4 x 4 pixels, then blocks on tokens."""

    def __init__(self, channels: int = 64, heads: int = 2, depth: int = 4, classes: int = 10) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, channels, 4, stride=4)
        self.blocks = nn.Sequential(*(Block(channels, heads) for _ in range(depth)))
        self.head = nn.Linear(channels, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Map batch x 3 x H x W to batch x classes."""
        tokens = self.patches(image).flatten(2).transpose(1, 2)
        return self.head(self.blocks(tokens).mean(dim=1))


def tokens() -> nn.Module:
    """Make the model: ``linglos-deploy export --model examples.other_attention.model:tokens``."""
    torch.manual_seed(0)
    return Tokens().eval()
