"""Architectures in plain PyTorch: token mixers, convolution mixers, attention, recurrence, norms and tapped layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from linglos_deploy.models.factory import ModelInput
from tests.zoo.entry import Entry


class Patches(nn.Module):
    """Image to tokens."""

    def __init__(self, width: int, patch: int = 8) -> None:
        super().__init__()
        self.project = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, image: Tensor) -> Tensor:
        return self.project(image).flatten(2).transpose(1, 2)


class Classifier(nn.Module):
    """Tokens, blocks, mean over tokens, linear head."""

    def __init__(self, blocks: list[nn.Module], width: int = 32, classes: int = 7) -> None:
        super().__init__()
        self.patches = Patches(width)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.patches(image))).mean(dim=1))


class PatchMlp(nn.Module):
    """Every row is a token: Linear layers on (N x tokens, C)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patch = nn.Linear(3 * 8 * 8, width)
        self.mlp = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width), nn.ReLU())
        self.head = nn.Linear(width, 7)

    def forward(self, image: Tensor) -> Tensor:
        n, c, h, w = image.shape
        rows = image.reshape(n, c, h // 8, 8, w // 8, 8).permute(0, 2, 4, 1, 3, 5).reshape(-1, c * 64)
        return self.head(self.mlp(self.patch(rows)).reshape(n, -1, 32).mean(dim=1))


class MixerBlock(nn.Module):
    """MLP-Mixer (arXiv 2105.01601): an MLP over tokens, an MLP over channels."""

    def __init__(self, width: int = 32, tokens: int = 16) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.tokens = nn.Sequential(nn.Linear(tokens, 24), nn.GELU(), nn.Linear(24, tokens))
        self.channels = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class Affine(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight + self.bias


class ResMlpBlock(nn.Module):
    """ResMLP (arXiv 2105.03404): affine transforms instead of norms, one linear layer over tokens."""

    def __init__(self, width: int = 32, tokens: int = 16) -> None:
        super().__init__()
        self.affine1, self.affine2 = Affine(width), Affine(width)
        self.tokens = nn.Linear(tokens, tokens)
        self.channels = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.affine1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.affine2(x))


class GatedBlock(nn.Module):
    """gMLP (arXiv 2105.08050): half of the channels gate the other half over tokens."""

    def __init__(self, width: int = 32, tokens: int = 16) -> None:
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(width), nn.LayerNorm(32)
        self.up, self.space, self.down = nn.Linear(width, 64), nn.Linear(tokens, tokens), nn.Linear(32, width)

    def forward(self, x: Tensor) -> Tensor:
        u, v = nn.functional.gelu(self.up(self.norm(x))).chunk(2, dim=-1)
        return x + self.down(u * self.space(self.inner(v).transpose(1, 2)).transpose(1, 2))


class AttentionBlock(nn.Module):
    """``nn.MultiheadAttention`` and an MLP."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class RmsBlock(nn.Module):
    """RMSNorm, rotary-free causal attention and a gated MLP, as in small language models."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.gate, self.up = nn.Linear(width, 64, bias=False), nn.Linear(width, 64, bias=False)
        self.down = nn.Linear(64, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (4, -1)).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, dim=-1))
        attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        y = self.norm2(x)
        return x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))


class ConvMixer(nn.Module):
    """ConvMixer (arXiv 2201.09792)."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 4, stride=4), nn.GELU(), nn.BatchNorm2d(width))
        self.depthwise = nn.Sequential(
            nn.Conv2d(width, width, 5, padding=2, groups=width), nn.GELU(), nn.BatchNorm2d(width)
        )
        self.pointwise = nn.Sequential(nn.Conv2d(width, width, 1), nn.GELU(), nn.BatchNorm2d(width))
        self.head = nn.Linear(width, 7)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        x = self.pointwise(x + self.depthwise(x))
        return self.head(x.mean(dim=(2, 3)))


class Coat(nn.Module):
    """Squeeze-and-excitation inverted residuals, then attention over the map, as CoAtNet (arXiv 2106.04803) does."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.SiLU())
        self.expand = nn.Sequential(nn.Conv2d(16, 32, 1, bias=False), nn.BatchNorm2d(32), nn.SiLU())
        self.depthwise = nn.Sequential(nn.Conv2d(32, 32, 3, 2, 1, groups=32, bias=False), nn.BatchNorm2d(32), nn.SiLU())
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(32, 8, 1), nn.SiLU(), nn.Conv2d(8, 32, 1))
        self.block = AttentionBlock(32)
        self.head = nn.Linear(32, 7)

    def forward(self, image: Tensor) -> Tensor:
        x = self.depthwise(self.expand(self.stem(image)))
        x = x * self.squeeze(x).sigmoid()
        return self.head(self.block(x.flatten(2).transpose(1, 2)).mean(dim=1))


class GroupNet(nn.Module):
    """GroupNorm, InstanceNorm and a channels-last LayerNorm between convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1),
            nn.GroupNorm(4, 16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, 2, 1, bias=False),
            nn.InstanceNorm2d(16, affine=True),
            nn.Hardswish(),
        )
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 7)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.norm(self.body(image).permute(0, 2, 3, 1)).mean(dim=(1, 2)))


class TappedSequential(nn.Module):
    """A backbone that numbers its layers and returns some of their maps, one of them before a BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 12, 3, 2, 1),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Conv2d(12, 16, 3, 2, 1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
        )

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        maps = {}
        for position, layer in enumerate(self.body):
            image = layer(image)
            if position in (0, 5):
                maps[f"map_{position}"] = image
        return maps


class UNet(nn.Module):
    """Down and up with a skip, ConvTranspose and a bilinear upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.down2 = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.middle = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())
        self.up = nn.Sequential(nn.ConvTranspose2d(16, 16, 2, 2), nn.BatchNorm2d(16), nn.ReLU())
        self.grow = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.mix, self.head = nn.Conv2d(24, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        one = self.down1(image)
        two = self.down2(one)
        three = self.up(self.middle(two)) + two
        return self.head(nn.functional.relu(self.mix(torch.cat([self.grow(three), one], dim=1))))


class Recurrent(nn.Module):
    """An LSTM over steps."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 16, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(32, 5)

    def forward(self, steps: Tensor) -> Tensor:
        return self.head(self.lstm(steps)[0][:, -1])


class Gated(nn.Module):
    """A GRU that takes its steps first."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(6, 16, batch_first=True), nn.Linear(16, 5)

    def forward(self, steps: Tensor) -> dict[str, Tensor]:
        states, _ = self.gru(steps)
        return {"logits": self.head(states.mean(dim=1)), "states": states}


class TwoTowers(nn.Module):
    """Two inputs of different kinds, and integers among the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.tokens = nn.Embedding(19, 8)
        self.head = nn.Linear(16, 4)

    def forward(self, picture: Tensor, tokens: Tensor) -> dict[str, object]:
        joined = torch.cat([self.image(picture).flatten(1), self.tokens(tokens).mean(dim=1)], dim=1)
        scores = self.head(joined)
        return {"scores": scores, "best": scores.argmax(dim=1)}


class Normalized(nn.Module):
    """An embedding of length one, as metric learning has."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.PReLU(), nn.Conv2d(16, 16, 3, 2, 1))
        self.project = nn.Linear(16, 12, bias=False)
        self.norm = nn.BatchNorm1d(12)

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.normalize(self.norm(self.project(self.body(image).mean(dim=(2, 3)))), dim=1)


STEPS = ModelInput("steps", ("batch", "length", 6), sizes={"length": 9})
PICTURE = ModelInput("picture", ("batch", 1, 16, 16))
TOKENS = ModelInput("tokens", ("batch", 5), dtype="int64")


def blocks(kind: type[nn.Module]) -> nn.Module:
    return Classifier([kind(), kind()])


OWN = (
    Entry("patch_mlp", PatchMlp, fast=True),
    Entry("mixer", lambda: blocks(MixerBlock)),
    Entry("resmlp", lambda: blocks(ResMlpBlock)),
    Entry("gmlp", lambda: blocks(GatedBlock)),
    Entry("mha", lambda: blocks(AttentionBlock), fast=True),
    Entry("rms_causal", lambda: blocks(RmsBlock), fast=True),
    Entry("convmixer", ConvMixer),
    Entry("coat", Coat),
    Entry("group_norm", GroupNet, fast=True),
    Entry("tapped_sequential", TappedSequential, fast=True),
    Entry("unet", UNet, fast=True),
    Entry("normalized", Normalized),
    Entry("lstm", Recurrent, inputs=(STEPS,), fast=True),
    Entry("gru", Gated, inputs=(STEPS,)),
    Entry("two_towers", TwoTowers, inputs=(PICTURE, TOKENS), integers={"tokens": 19}, fast=True),
)
