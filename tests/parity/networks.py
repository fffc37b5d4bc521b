"""Small networks: of token mixing, of convolutions with batch normalization, of two scales with attention, a LinGlo."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.models.factory import ModelDescription
from linglos_deploy.models.linglo import unloaded_linglo
from linglos_deploy.models.synthetic import random_weights
from linglos_deploy.models.variants import LinGloConfig


class Mixing(nn.Module):
    def __init__(self, tokens: int, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.tokens = nn.Sequential(nn.Linear(tokens, 2 * tokens), nn.GELU(), nn.Linear(2 * tokens, tokens))
        self.channels = nn.Sequential(nn.Linear(channels, 3 * channels), nn.GELU(), nn.Linear(3 * channels, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 8, stride=8)
        self.blocks = nn.Sequential(Mixing(16, 24), Mixing(16, 24))
        self.head = nn.Linear(24, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(image).flatten(2).transpose(1, 2)
        answer: torch.Tensor = self.head(self.blocks(tokens).mean(dim=1))
        return answer


def mixer() -> ModelDescription:
    torch.manual_seed(1)
    return ModelDescription(Mixer(), name="mixer", size_divisor=32)


def convnet() -> ModelDescription:
    torch.manual_seed(2)
    layers: list[nn.Module] = []
    for inner, outer in ((3, 8), (8, 16), (16, 24)):
        norm = nn.BatchNorm2d(outer)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
        nn.init.normal_(norm.running_mean, std=0.2)
        layers += [nn.Conv2d(inner, outer, 3, stride=2, padding=1, bias=False), norm, nn.SiLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 6)]
    return ModelDescription(nn.Sequential(*layers), name="convnet", size_divisor=8)


def labelled() -> ModelDescription:
    """The same with names of classes, and images prepared as no default would have it."""
    spec = PreprocessSpec((32, 32), mean=(0.45, 0.40, 0.35), std=(0.30, 0.28, 0.33), crop_pct=0.8)
    return replace(convnet(), name="labelled", labels=tuple("abcdef"), preprocess=spec, trained=True)


class Pyramid(nn.Module):
    """Two scales that are merged, then attention over positions; as many positions as channels at 32 x 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1, padding_mode="reflect")
        self.down = nn.Conv2d(16, 16, 3, stride=2, padding=1)
        self.lateral, self.merge = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 3, padding=1)
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.query, self.key, self.value, self.out = (nn.Linear(16, 16) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.head = nn.Linear(16, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        near = nn.functional.hardtanh(self.stem(image), -1.5, 1.5)
        far = self.lateral(nn.functional.gelu(self.down(near)))
        merged = nn.functional.gelu(
            self.merge(near + nn.functional.interpolate(far, scale_factor=2.0, mode="bilinear"))
        )
        tokens = nn.functional.avg_pool2d(merged, 4).flatten(2).transpose(1, 2)
        normed = self.norm1(tokens)
        heads = [part(normed).unflatten(2, (2, 8)).transpose(1, 2) for part in (self.query, self.key, self.value)]
        scores = torch.softmax(heads[0] @ heads[1].transpose(2, 3) * 8**-0.5, dim=-1)
        tokens = tokens + self.out((scores @ heads[2]).transpose(1, 2).flatten(2))
        tokens = tokens + self.mlp(self.norm2(tokens))
        answer: torch.Tensor = self.head(tokens.mean(dim=1))
        return answer


def pyramid() -> ModelDescription:
    torch.manual_seed(3)
    model = Pyramid()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data *= 1.7
    return ModelDescription(model, name="pyramid", size_divisor=8)


def tiny_linglo(seed: int) -> ModelDescription:
    """A LinGlo small enough for hundreds of runs."""
    config = LinGloConfig(dims=(8, 16, 24, 32), depths=(1, 1, 1, 1), num_classes=3, image_size=32)
    model = unloaded_linglo(config)
    model.to_empty(device="cpu").load_state_dict(random_weights(model, seed=seed))
    return ModelDescription(model, name="tiny", size_divisor=32, trained=False)


def tiny_one() -> ModelDescription:
    return tiny_linglo(1)


def tiny_two() -> ModelDescription:
    return tiny_linglo(2)


class RootMeanSquare(nn.Module):
    """Tokens of some hundreds in front of an RMSNorm, whose squares float16 cannot hold."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, stride=8)
        self.weight = nn.Parameter(torch.rand(16) + 0.5)
        self.mlp, self.head = nn.Linear(16, 16), nn.Linear(16, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        tokens = 900 * self.patches(image).flatten(2).transpose(1, 2)
        normed = tokens * torch.rsqrt(tokens.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight
        answer: torch.Tensor = self.head(torch.relu(self.mlp(normed)).mean(dim=1))
        return answer


def root_mean_square() -> ModelDescription:
    torch.manual_seed(5)
    return ModelDescription(RootMeanSquare(), name="rms", size_divisor=8)
