"""Float16, bfloat16 and int8+fp16 of networks with everything that breaks in 16 bits, against float32."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto
from torch import nn
from torch.nn import functional

from linglos_deploy.artifacts import open_onnx
from linglos_deploy.backends.compilers.tensorrt_rtx import tensorrt_rtx
from linglos_deploy.engines.profiles import make_profile
from linglos_deploy.engines.spec import BuildSpec
from linglos_deploy.exporters.precision import to_sixteen_bits
from linglos_deploy.graph.topology import constants, value_types
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


class SideBySide(nn.Module):
    """Several networks that read one input: one export for all of them."""

    def __init__(self, parts: Mapping[str, Callable[[], nn.Module]]) -> None:
        super().__init__()
        self.parts = nn.ModuleList([make() for make in parts.values()])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(part(x) for part in self.parts)


FAMILIES: dict[str, tuple[tuple[int, ...], dict[str, Callable[[], nn.Module]]]] = {
    "tokens": (
        TOKENS,
        {
            "rmsnorm": ThroughRMSNorm,
            "normalize": Normalized,
            "variance": Variance,
            "causal_inf": lambda: CausalAttention(-math.inf),
            "causal_finfo_min": lambda: CausalAttention(torch.finfo(torch.float32).min),
            "all_masked": MaskedRow,
            "masked_fill": lambda: FilledAttention(torch.finfo(torch.float32).min),
            "rotary": Rotary,
            "logsumexp": LogSumExp,
        },
    ),
    "images": (
        IMAGE,
        {
            "upsample": lambda: Upsampled(align_corners=False),
            "upsample_aligned": lambda: Upsampled(align_corners=True),
            "groupnorm": lambda: Around(nn.GroupNorm(2, 8)),
            "instancenorm": lambda: Around(nn.InstanceNorm2d(8, affine=True)),
            "softplus": lambda: Around(nn.Softplus()),
            "generalized_mean": lambda: Around(GeneralizedMean()),
            "grid_sample": lambda: Around(Warp()),
            "functions": lambda: Around(nn.Sequential(nn.Mish(), nn.Hardswish(), nn.GELU("tanh"))),
        },
    ),
    "ids": ((5,), {"embedding": Tokens}),
}
SCALES = {
    "rmsnorm": (1.0, 100.0, 10_000.0),
    "normalize": (1e-3, 1.0, 1000.0),
    "variance": (1.0, 1000.0),
    "logsumexp": (1.0, 40.0),
    "groupnorm": (1.0, 1000.0),
    "instancenorm": (1.0, 1000.0),
    "softplus": (1.0, 1000.0),
    "generalized_mean": (1.0, 100.0),
    "functions": (1.0, 100.0),
}
"""How far the input reaches, where that is what makes a network hard."""

EVERYTHING = [(family, name) for family, (_, parts) in FAMILIES.items() for name in parts]
pytestmark = pytest.mark.xdist_group("sixteen_bits")  # one worker exports, once


@cache
def _exported(family: str) -> onnx.ModelProto:
    _, parts = FAMILIES[family]
    torch.manual_seed(0)
    program = torch.onnx.export(
        SideBySide(parts).eval(),
        (torch.from_numpy(_input(family, 1.0, 2)),),
        input_names=["x"],
        output_names=[f"of.{name}" for name in parts],
        opset_version=20,
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        dynamo=True,
        verbose=False,
    )
    return program.model_proto


@cache
def _typed(family: str, kind: ir.DataType) -> onnx.ModelProto:
    return to_sixteen_bits(_exported(family), kind)[0]


@cache
def _answers(family: str, kind: ir.DataType, scale: float, batch: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return what float32 and 16 bits answer, by case."""
    feeds = {"x": _input(family, scale, batch)}
    expected, found = run(_exported(family), feeds), run_rounded(_typed(family, kind), feeds)
    return dict(zip(FAMILIES[family][1], zip(expected, found, strict=True), strict=True))


def _input(family: str, scale: float, batch: int) -> np.ndarray:
    shape = (batch, *FAMILIES[family][0])
    random = np.random.default_rng(batch)
    if family == "ids":
        return random.integers(0, 50, shape) * int(scale != 0.0)
    return (random.standard_normal(shape) * scale).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", ENOUGH)
@pytest.mark.parametrize(("family", "name"), EVERYTHING)
def test_sixteen_bits_are_as_good_as_they_can_be(family, name, kind, batch):
    for scale in SCALES.get(name, (1.0,)):
        expected, found = _answers(family, kind, scale, batch)[name]
        assert decibels(expected, found) >= ENOUGH[kind], scale


@pytest.mark.parametrize("kind", ENOUGH)
@pytest.mark.parametrize(("family", "name"), EVERYTHING)
def test_zeros_give_no_nan(family, name, kind):
    expected, found = _answers(family, kind, 0.0, 2)[name]
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_products_and_convolutions_with_weights_narrow(family):
    """What is right may not be so because everything stayed in float32."""
    model = _typed(family, ir.DataType.FLOAT16)
    types, fixed = value_types(model), constants(model.graph)
    layers = [
        node for node in model.graph.node if node.op_type in {"Conv", "Gemm", "MatMul"} and node.input[1] in fixed
    ]
    narrow = [node for node in layers if types[node.output[0]] == TensorProto.FLOAT16]
    assert layers == narrow != []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENOUGH)
@pytest.mark.parametrize("family", FAMILIES)
def test_tensorrt_rtx_builds_what_stays_partly_in_float32(family, kind, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'linglos-deploy[tensorrt-rtx]'")
    path = tmp_path / "typed.onnx"
    onnx.save(_typed(family, kind), path)
    graph = open_onnx(path)
    batch = next(dim for dim in graph.signature.inputs[0].shape if isinstance(dim, str))
    spec = BuildSpec(profiles=(make_profile(graph.signature, {batch: (1, 2, 4)}),))
    engine = tensorrt_rtx(cache=False).compile(graph, spec, out=tmp_path / "typed.engine")
    assert engine.path.stat().st_size > 0
