"""Float16, bfloat16 and int8+fp16 of networks with everything that breaks in 16 bits, against float32."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn
from torch.nn import functional

from linglos_deploy.exporters.precision import to_sixteen_bits
from tests.exporters.graphs import decibels, run, run_rounded

ENOUGH = {ir.DataType.FLOAT16: 40.0, ir.DataType.BFLOAT16: 25.0}
TOKENS, IMAGE = (5, 16), (8, 6, 6)


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class ThroughRMSNorm(nn.Module):
    """The residual stream in front of the norm is wide: up to some thousands, whose squares float16 cannot hold."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.norm, self.after = nn.Linear(16, 16), RMSNorm(16), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.norm(self.before(x)))


class Normalized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(16, 16, bias=False), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(functional.normalize(self.before(x), dim=-1))


class CausalAttention(nn.Module):
    def __init__(self, blocked: float) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.register_buffer("mask", torch.full((TOKENS[0], TOKENS[0]), blocked).triu(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv(x).chunk(3, -1)
        scores = query @ key.transpose(-1, -2) / math.sqrt(16) + self.mask
        return self.out(scores.softmax(-1) @ value)


class MaskedRow(CausalAttention):
    """Everything is masked with the most negative number: float32 then weighs all positions alike."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.mask.fill_(torch.finfo(torch.float32).min)


class FilledAttention(CausalAttention):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv(x).chunk(3, -1)
        scores = (query @ key.transpose(-1, -2)).masked_fill(self.mask < -1.0, torch.finfo(torch.float32).min)
        return self.out(scores.softmax(-1) @ value)


class Upsampled(nn.Module):
    def __init__(self, *, align_corners: bool) -> None:
        super().__init__()
        self.before, self.after = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=align_corners)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.up(self.before(x)))


class Around(nn.Module):
    """A convolution, something that is delicate, and another convolution."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.before, self.inner, self.after = nn.Conv2d(8, 8, 3, padding=1), inner, nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.inner(self.before(x)))


class LogSumExp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(16, 16), nn.Linear(1, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.before(x)
        return self.after(scores.exp().sum(-1, keepdim=True).log()) + torch.logsumexp(scores, -1, keepdim=True)


class Variance(nn.Module):
    """LayerNorm as the exporters of old opsets write it."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.before(x)
        centred = x - x.mean(-1, keepdim=True)
        return self.after(centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-12))


class GeneralizedMean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp(min=1e-6).pow(3).mean((-2, -1), keepdim=True).pow(1 / 3)


class Warp(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, z = torch.meshgrid(torch.linspace(-1, 1, 6), torch.linspace(-1, 1, 6), indexing="ij")
        grid = torch.stack([z, y], -1).expand(x.shape[0], 6, 6, 2)
        return functional.grid_sample(x, grid + 0.1 * x[:, :2].permute(0, 2, 3, 1).tanh(), align_corners=False)


class Rotary(nn.Module):
    """Positions of some thousands: angles that 16 bits cannot tell apart."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(16, 16), nn.Linear(16, 16)
        self.register_buffer("frequencies", 1.0 / 100 ** (torch.arange(8) / 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.before(x)
        angles = (torch.arange(x.shape[1]) + 30_000).float()[:, None] @ self.frequencies[None]
        left, right = x.chunk(2, -1)
        turned = torch.cat([left * angles.cos() - right * angles.sin(), left * angles.sin() + right * angles.cos()], -1)
        return self.after(turned)


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm, self.out = nn.Embedding(50, 16), RMSNorm(16), nn.Linear(16, 8)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        keep = (ids != 0).float()
        bias = ((1.0 - keep) * torch.finfo(torch.float32).min)[:, None]
        x = self.table(ids)
        return self.out(self.norm((x @ x.transpose(-1, -2) + bias).softmax(-1) @ x))


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], float]] = {
    "rmsnorm": (ThroughRMSNorm, TOKENS, 1.0),
    "rmsnorm, wide": (ThroughRMSNorm, TOKENS, 1000.0),
    "normalize": (Normalized, TOKENS, 1.0),
    "normalize, small": (Normalized, TOKENS, 1e-3),
    "variance": (Variance, TOKENS, 1000.0),
    "causal -inf": (lambda: CausalAttention(-math.inf), TOKENS, 1.0),
    "causal finfo.min": (lambda: CausalAttention(torch.finfo(torch.float32).min), TOKENS, 1.0),
    "all masked": (MaskedRow, TOKENS, 1.0),
    "masked_fill": (lambda: FilledAttention(torch.finfo(torch.float32).min), TOKENS, 1.0),
    "rotary": (Rotary, TOKENS, 1.0),
    "logsumexp": (LogSumExp, TOKENS, 40.0),
    "upsample": (lambda: Upsampled(align_corners=False), IMAGE, 1.0),
    "upsample, aligned": (lambda: Upsampled(align_corners=True), IMAGE, 1.0),
    "groupnorm": (lambda: Around(nn.GroupNorm(2, 8)), IMAGE, 100.0),
    "instancenorm": (lambda: Around(nn.InstanceNorm2d(8, affine=True)), IMAGE, 100.0),
    "softplus": (lambda: Around(nn.Softplus()), IMAGE, 100.0),
    "generalized mean": (lambda: Around(GeneralizedMean()), IMAGE, 100.0),
    "grid sample": (lambda: Around(Warp()), IMAGE, 1.0),
    "hard cases of functions": (
        lambda: Around(nn.Sequential(nn.Mish(), nn.Hardswish(), nn.GELU("tanh"))),
        IMAGE,
        100.0,
    ),
    "tokens": (Tokens, (5,), 0.0),
}


def _export(name: str, opset: int) -> onnx.ModelProto:
    make, shape, scale = CASES[name]
    torch.manual_seed(0)
    x = torch.randint(0, 50, (2, *shape)) if scale == 0.0 else torch.randn(2, *shape)
    program = torch.onnx.export(
        make().eval(),
        (x,),
        input_names=["x"],
        output_names=["y"],
        opset_version=opset,
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        dynamo=True,
        verbose=False,
    )
    return program.model_proto


@pytest.fixture(scope="session")
def exported_case() -> Callable[[str], onnx.ModelProto]:
    """Export each case once."""
    models: dict[str, onnx.ModelProto] = {}

    def export(name: str) -> onnx.ModelProto:
        if name not in models:
            models[name] = _export(name, 20)
        return models[name]

    return export


def _input(name: str, batch: int) -> np.ndarray:
    _, shape, scale = CASES[name]
    random = np.random.default_rng(batch)
    if scale == 0.0:
        return random.integers(0, 50, (batch, *shape))
    return (random.standard_normal((batch, *shape)) * scale).astype(np.float32)


@pytest.mark.parametrize("name", CASES)
def test_sixteen_bits_are_as_good_as_they_can_be(name, exported_case):
    model = exported_case(name)
    for kind, least in ENOUGH.items():
        typed, _ = to_sixteen_bits(model, kind)
        for batch in (1, 3):
            feeds = {"x": _input(name, batch)}
            (expected,), (found,) = run(model, feeds), run_rounded(typed, feeds)
            assert decibels(expected, found) >= least, (kind, batch)


@pytest.mark.parametrize("name", CASES)
def test_zeros_give_no_nan(name, exported_case):
    model = exported_case(name)
    typed, _ = to_sixteen_bits(model, ir.DataType.FLOAT16)
    feeds = {"x": np.zeros_like(_input(name, 2))}
    (expected,), (found,) = run(model, feeds), run_rounded(typed, feeds)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-2)
