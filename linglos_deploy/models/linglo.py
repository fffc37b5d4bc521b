"""The LinGlo family: convolution and key-only attention in alternation, in every stage.

Source: Cheng Li, Yangxin Liu, "Rethinking Query-Key Pairwise Interactions in Vision Transformers", arXiv 2207.00188.
The abstract states key-only attention with a saliency gate, linear cost, and the alternate layout; stem, downsampling,
head, sizes and the exact gate are this project's reading (see README.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from linglos_deploy.models.attention import Norm, SaliencyGate, SaliencyLayer
from linglos_deploy.models.variants import LinGloConfig, head_count
from linglos_deploy.tasks.registry import CLASSIFY, load_task

MLP_RATIO = 3
EXPANSION = 4


class LinGlo(nn.Module):
    """A LinGlo classifier, a multi-scale backbone, or a backbone with a task's head on its maps.

    Input: ``image``, float32 N x 3 x H x W, H and W multiples of 32.
    Output: ``logits``, N x classes; with ``task="features"`` one N x dims[i] x H/s x W/s map per stride s in 4, 8, 16,
    32; with another task what its head makes of these maps.

    Args:
        config: Its sizes.
        task: What it is for, see :mod:`linglos_deploy.tasks`.
        settings: What is chosen of the task's settings; defaults for the rest.
    """

    def __init__(
        self, config: LinGloConfig, *, task: str = CLASSIFY, settings: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.task = task
        kind = load_task(task)
        self.settings = kind.complete(settings or {})
        dims = config.dims
        self.stem = nn.Sequential(
            ConvNorm(3, dims[0] // 2, 3, stride=2),
            nn.GELU(),
            ConvNorm(dims[0] // 2, dims[0], 3, stride=2),
            nn.GELU(),
        )
        self.downsamples = nn.ModuleList(InvertedResidual(before, after, stride=2) for before, after in pairwise(dims))
        self.stages = nn.ModuleList(
            nn.Sequential(*(layer for _ in range(depth) for layer in (InvertedResidual(dim, dim), AttentionLayer(dim))))
            for dim, depth in zip(dims, config.depths, strict=True)
        )
        if task == CLASSIFY:
            self.norm = nn.LayerNorm(dims[-1])
            self.head: nn.Module = nn.Linear(dims[-1], config.num_classes)
        elif kind.head is not None:
            self.head = kind.head(dims, config.num_classes, self.settings)
        else:
            self.head = nn.Identity()

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run the model; see the class for shapes."""
        features = []
        x = self.stem(image)
        for index, stage in enumerate(self.stages):
            x = stage(self.downsamples[index - 1](x) if index else x)
            features.append(x)
        if self.task == CLASSIFY:
            logits: Tensor = self.head(self.norm(x.mean(dim=(2, 3))))
            return logits
        if isinstance(self.head, nn.Identity):
            return tuple(features)
        answers: Tensor | tuple[Tensor, ...] = self.head(tuple(features), (image.shape[2], image.shape[3]))
        return answers


def unloaded_linglo(config: LinGloConfig, *, task: str = CLASSIFY, settings: Mapping[str, str] | None = None) -> LinGlo:
    """Return a LinGlo on the meta device: names and shapes, no memory, no time spent on initial weights."""
    with torch.device("meta"):
        return LinGlo(config, task=task, settings=settings)


class ConvNorm(nn.Sequential):
    """Convolution without bias, then batch normalization."""

    def __init__(self, before: int, after: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(after),
        )


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise 3x3, 1x1 projection; a shortcut where the shapes agree."""

    def __init__(self, before: int, after: int, *, stride: int = 1) -> None:
        super().__init__()
        hidden = before * EXPANSION
        self.expand = ConvNorm(before, hidden, 1)
        self.depthwise = ConvNorm(hidden, hidden, 3, stride=stride, groups=hidden)
        self.project = ConvNorm(hidden, after, 1)
        self.act = nn.GELU()
        self.shortcut = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        """Map N x before x H x W to N x after x H/stride x W/stride."""
        y: Tensor = self.project(self.act(self.depthwise(self.act(self.expand(x)))))
        return x + y if self.shortcut else y


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of N x C x H x W, at each position."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize; same shape out."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class KeyOnlyAttention(nn.Module):
    """Attention whose weights come from the keys alone, through a saliency gate; cost linear in the positions.

    K = Wk X + bk, S = Wg K + bg, A = softmax over positions of S, V = Wv X + bv, G = sum over positions of A * V,
    Y = Wo (K * G) + bo.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.key = nn.Conv2d(dim, dim, 1)
        self.gate = nn.Conv2d(dim, heads, 1)
        self.value = nn.Conv2d(dim, dim, 1)
        self.out = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Attend; N x C x H x W in and out."""
        key = self.key(x)
        weights = self.gate(key).flatten(2).softmax(dim=-1)  # N x heads x HW
        value = self.value(x).flatten(2).unflatten(1, (self.heads, -1))  # N x heads x d x HW
        context = (value @ weights.unsqueeze(-1)).flatten(1)  # N x C
        attended: Tensor = self.out(key * context[:, :, None, None])
        return attended

    def saliency_gate(self) -> SaliencyGate:
        """Name the tensors; see :mod:`linglos_deploy.models.attention`."""
        return SaliencyGate(
            heads=self.heads,
            key=self.key.weight,
            gate=self.gate.weight,
            value=self.value.weight,
            out=self.out.weight,
            key_bias=self.key.bias,
            gate_bias=self.gate.bias,
            value_bias=self.value.bias,
            out_bias=self.out.bias,
        )


class Mlp(nn.Sequential):
    """Two 1x1 convolutions around a GELU."""

    def __init__(self, dim: int) -> None:
        super().__init__(nn.Conv2d(dim, dim * MLP_RATIO, 1), nn.GELU(), nn.Conv2d(dim * MLP_RATIO, dim, 1))

    @property
    def expand(self) -> nn.Conv2d:
        """The first convolution."""
        return cast(nn.Conv2d, self[0])

    @property
    def project(self) -> nn.Conv2d:
        """The second convolution."""
        return cast(nn.Conv2d, self[2])


class AttentionLayer(nn.Module):
    """Pre-normalized key-only attention and MLP, each with a shortcut."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = ChannelLayerNorm(dim)
        self.attention = KeyOnlyAttention(dim, head_count(dim))
        self.norm2 = ChannelLayerNorm(dim)
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Mix globally, then per position; N x C x H x W in and out."""
        x = x + self.attention(self.norm1(x))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y

    def saliency_layer(self) -> SaliencyLayer:
        """Name the tensors; see :mod:`linglos_deploy.models.attention`."""
        return SaliencyLayer(
            attention=self.attention.saliency_gate(),
            norm1=Norm(self.norm1.weight, self.norm1.bias, self.norm1.eps),
            norm2=Norm(self.norm2.weight, self.norm2.bias, self.norm2.eps),
            expand=self.mlp.expand.weight,
            project=self.mlp.project.weight,
            expand_bias=self.mlp.expand.bias,
            project_bias=self.mlp.project.bias,
        )
