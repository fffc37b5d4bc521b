"""Architectures unlike the others: decoders, volumes, sound, scans, sampling, several inputs and nested outputs."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from linglos_deploy.models.factory import ModelInput
from tests.zoo.entry import Entry


class EncoderDecoder(nn.Module):
    """PyTorch's own transformer: cross attention, a causal mask, two sequences of different lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Transformer(16, 4, 1, 1, 32, batch_first=True, dropout=0.0)
        self.head = nn.Linear(16, 7)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(5)
        return self.head(self.body(source, target, tgt_mask=mask))


class Transposed(nn.Module):
    """A U-shape of transposed convolutions, with groups and an output padding."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.InstanceNorm2d(8, affine=True), nn.LeakyReLU(0.1))
        self.deep = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ELU())
        self.up = nn.ConvTranspose2d(16, 8, 3, 2, 1, output_padding=1, groups=4)
        self.last = nn.ConvTranspose2d(16, 2, 2, 2)

    def forward(self, image: Tensor) -> Tensor:
        first = self.down(image)
        return self.last(torch.cat([first, self.up(self.deep(first))], dim=1))


class Volume(nn.Module):
    """Convolutions over time, height and width, depth by depth, then pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(2, 8, 3, (1, 2, 2), 1)
        self.norm = nn.BatchNorm3d(8)
        self.depthwise = nn.Conv3d(8, 8, (3, 1, 1), padding=(1, 0, 0), groups=8)
        self.pool = nn.MaxPool3d((1, 2, 2))
        self.head = nn.Linear(8, 3)

    def forward(self, clip: Tensor) -> Tensor:
        seen = functional.hardswish(self.norm(self.stem(clip)))
        return self.head(self.pool(self.depthwise(seen)).mean(dim=(2, 3, 4)))


class Sound(nn.Module):
    """Strided one-dimensional convolutions, gated, then a GRU of two directions."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(1, 16, 9, 4, 4), nn.GLU(dim=1), nn.Conv1d(8, 12, 5, 2, 2, dilation=1))
        self.norm = nn.BatchNorm1d(12)
        self.recurrent = nn.GRU(12, 8, batch_first=True, bidirectional=True)
        self.head = nn.Linear(16, 4)

    def forward(self, wave: Tensor) -> Tensor:
        steps = torch.tanh(self.norm(self.body(wave[:, None]))).transpose(1, 2)
        states, _ = self.recurrent(steps)
        return self.head(states.amax(dim=1))


class EinsumMixer(nn.Module):
    """Tokens and channels mixed by einsum over weights that are no layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.zeros(16, 16))
        self.channels = nn.Parameter(torch.zeros(12, 12))
        self.embed = nn.Conv2d(3, 12, 8, 8)

    def forward(self, image: Tensor) -> Tensor:
        seen = self.embed(image).flatten(2)
        mixed = functional.gelu(torch.einsum("bct,tu->bcu", seen, self.tokens))
        return torch.einsum("bcu,cd->bdu", mixed, self.channels).mean(dim=2)


class Capsules(nn.Module):
    """Votes routed by agreement: a product of activations, squashed, sliced by a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.primary = nn.Conv2d(3, 16, 5, 4)
        self.votes = nn.Parameter(torch.zeros(4, 8, 8, 4))

    def forward(self, image: Tensor) -> Tensor:
        poses = self.primary(image).flatten(2)[:, :, ::7].transpose(1, 2).reshape(-1, 7, 2, 8)[:, :, 0]
        votes = torch.einsum("bip,kpqo->biko", poses, self.votes)
        agreement = torch.zeros_like(votes[..., 0])
        for _ in range(2):
            weights = agreement.softmax(dim=2)
            pooled = (weights[..., None] * votes).sum(dim=1)
            length = pooled.square().sum(dim=-1, keepdim=True)
            pooled = pooled * length / (1 + length) / (length + 1e-6).sqrt()
            agreement = agreement + (votes * pooled[:, None]).sum(dim=-1)
        return pooled.norm(dim=-1)


class SqueezeExcite(nn.Module):
    """Mobile blocks with a gate over channels and hard activation functions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Hardswish())
        self.expand = nn.Sequential(nn.Conv2d(8, 24, 1), nn.BatchNorm2d(24), nn.ReLU6())
        self.depthwise = nn.Conv2d(24, 24, 5, 1, 2, groups=24)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(24, 6, 1), nn.ReLU(), nn.Conv2d(6, 24, 1))
        self.project = nn.Conv2d(24, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, image: Tensor) -> Tensor:
        seen = self.stem(image)
        wide = self.depthwise(self.expand(seen))
        seen = seen + self.project(wide * functional.hardsigmoid(self.gate(wide)))
        return self.head(seen.mean(dim=(2, 3)))


class Found(NamedTuple):
    boxes: Tensor
    classes: Tensor


class Nested(nn.Module):
    """A dictionary of a named tuple, a list and integers, as detectors return."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.SiLU(), nn.Conv2d(8, 9, 1))

    def forward(self, image: Tensor) -> dict[str, object]:
        seen = self.body(image).flatten(2).transpose(1, 2)
        best, place = seen[..., 4:].max(dim=2)
        found = Found(seen[..., :4].sigmoid(), seen[..., 4:].softmax(dim=2))
        return {"found": found, "levels": [seen, best], "place": place}


class Ranks(nn.Module):
    """Inputs of rank 4, 2 and 1."""

    def __init__(self) -> None:
        super().__init__()
        self.picture = nn.Conv2d(1, 6, 4, 4)
        self.table = nn.Linear(5, 6)

    def forward(self, picture: Tensor, table: Tensor, weight: Tensor) -> Tensor:
        seen = self.picture(picture).amax(dim=(2, 3)) + self.table(table)
        return seen * weight[:, None]


class Bags(nn.Module):
    """Bags of categories, each the mean of its embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(23, 8, mode="mean")
        self.head = nn.Sequential(nn.Linear(8, 16), nn.Mish(), nn.Linear(16, 3))

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.bag(ids))


class SuperResolution(nn.Module):
    """Twice as many pixels: sub-pixel convolution onto an interpolated image."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.PReLU(8), nn.Conv2d(8, 12, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        enlarged = functional.interpolate(image, scale_factor=2, mode="bicubic", align_corners=False)
        return enlarged + functional.pixel_shuffle(self.body(image), 2)


class Warp(nn.Module):
    """A spatial transformer: an image sampled where a small network says."""

    def __init__(self) -> None:
        super().__init__()
        self.where = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Tanh(), nn.Flatten(), nn.Linear(64, 6))
        self.look = nn.Conv2d(3, 4, 3, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        grid = functional.affine_grid(0.3 * self.where(image).view(-1, 2, 3), [image.shape[0], 3, 16, 16], False)
        return self.look(functional.grid_sample(image, grid, align_corners=False))


class Labels(nn.Module):
    """A map of classes, as integers, and how many pixels each has."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Softplus(), nn.Conv2d(8, 4, 1))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        scores = self.body(image)
        return {"scores": scores, "label": scores.argmax(dim=1), "top": scores.flatten(2).mean(dim=2).topk(2).indices}


class NormedTokens(nn.Module):
    """Batch normalization over the channels of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 8, 8)
        self.first, self.second = nn.BatchNorm1d(16), nn.BatchNorm1d(16)
        self.mix, self.head = nn.Linear(16, 16), nn.Linear(16, 5)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.embed(image).flatten(2).transpose(1, 2)
        tokens = tokens + functional.relu(self.first(self.mix(tokens).flatten(0, 1))).view_as(tokens)
        return self.head(self.second(tokens.mean(dim=1)))


class Rotary(nn.Module):
    """Attention whose queries and keys turn with their position."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(31, 16)
        self.qkv, self.out = nn.Linear(16, 48, bias=False), nn.Linear(16, 16, bias=False)
        self.norm = nn.RMSNorm(16)

    def forward(self, tokens: Tensor) -> Tensor:
        seen = self.norm(self.embed(tokens))
        heads = self.qkv(seen).unflatten(2, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        angles = torch.arange(seen.shape[1])[:, None] * 100 ** (-torch.arange(4) / 4)
        turn = torch.polar(torch.ones_like(angles), angles)
        pairs = torch.view_as_complex(heads[:2].unflatten(-1, (4, 2)).contiguous())
        query, key = torch.view_as_real(pairs * turn).flatten(-2)
        mixed = functional.scaled_dot_product_attention(query, key, heads[2], is_causal=True)
        return seen + self.out(mixed.transpose(1, 2).flatten(2))


class Rotated(Rotary):
    """The same without complex numbers: halves that change places."""

    def forward(self, tokens: Tensor) -> Tensor:
        seen = self.norm(self.embed(tokens))
        heads = self.qkv(seen).unflatten(2, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        angles = torch.arange(seen.shape[1])[:, None] * 100 ** (-torch.arange(4) / 4)
        cosine, sine = (part(torch.cat([angles, angles], dim=-1)) for part in (torch.cos, torch.sin))
        first, second = heads[:2].chunk(2, dim=-1)
        query, key = heads[:2] * cosine + torch.cat([-second, first], dim=-1) * sine
        scores = query @ key.transpose(2, 3) / math.sqrt(8)
        hidden = torch.ones(seen.shape[1], seen.shape[1], dtype=torch.bool).triu(1)
        mixed = scores.masked_fill(hidden, -math.inf).softmax(dim=-1) @ heads[2]
        return seen + self.out(mixed.transpose(1, 2).flatten(2))


class Scan(nn.Module):
    """A selective scan in closed form: decays accumulated by cumsum, states summed and weighed back."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.step, self.out = nn.Linear(6, 16), nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, steps: Tensor) -> Tensor:
        value, gate = self.inside(steps).chunk(2, dim=-1)
        decay = torch.cumsum(-functional.softplus(self.step(steps)), dim=1)
        states = torch.exp(decay) * torch.cumsum(torch.exp(-decay) * value, dim=1)
        return self.out(states * functional.silu(gate))


def sequence(name: str, channels: int, length: int) -> ModelInput:
    return ModelInput(name, ("batch", f"{name}_length", channels), sizes={f"{name}_length": length})


IDS = ModelInput("tokens", ("batch", "length"), dtype="int64", sizes={"length": 9})

VARIED = (
    Entry(
        "encoder_decoder",
        EncoderDecoder,
        inputs=(ModelInput("source", ("batch", 8, 16)), ModelInput("target", ("batch", 5, 16))),
    ),
    Entry("transposed", Transposed),
    Entry("volume", Volume, inputs=(ModelInput("clip", ("batch", 2, 5, 16, 16)),)),
    Entry("sound", Sound, inputs=(ModelInput("wave", ("batch", "samples"), sizes={"samples": 256}),)),
    Entry("einsum_mixer", EinsumMixer),
    Entry("capsules", Capsules),
    Entry("squeeze_excite", SqueezeExcite),
    Entry("nested_outputs", Nested),
    Entry(
        "ranks",
        Ranks,
        inputs=(
            ModelInput("picture", ("batch", 1, 8, 8)),
            ModelInput("table", ("batch", 5)),
            ModelInput("weight", ("batch",)),
        ),
    ),
    Entry(
        "bags",
        Bags,
        inputs=(ModelInput("ids", ("batch", 6), dtype="int64"),),
        integers={"ids": 23},
        limits={"engine": "SequenceEmpty' is none"},
    ),
    Entry("super_resolution", SuperResolution),
    Entry("warp", Warp),
    Entry("labels", Labels),
    Entry("normed_tokens", NormedTokens),
    Entry("rotary_complex", Rotary, inputs=(IDS,), integers={"tokens": 31}),
    Entry("rotary", Rotated, inputs=(IDS,), integers={"tokens": 31}),
    Entry("scan", Scan, inputs=(sequence("steps", 6, 11),)),
)
