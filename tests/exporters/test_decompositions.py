from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from linglos_deploy.exporters.decompositions.channels_last import OnTokens
from linglos_deploy.exporters.decompositions.folds import absorb_bias, centre, fold_affine_into_gate
from linglos_deploy.exporters.decompositions.gate import read_gate
from linglos_deploy.exporters.decompositions.layer import MapLayer, TokenLayer, read_layer
from linglos_deploy.exporters.decompositions.reference import reference
from linglos_deploy.exporters.decompositions.registry import form_names, load_form
from linglos_deploy.models.attention import Norm, SaliencyGate, SaliencyLayer
from linglos_deploy.models.linglo import AttentionLayer, KeyOnlyAttention

LIMITS = {torch.float64: 1e-10, torch.float32: 1e-5}


@dataclass(frozen=True)
class Case:
    gate: SaliencyGate
    x: torch.Tensor  # batch x C x H x W, float64


@st.composite
def cases(draw: st.DrawFn, *, max_head: int = 9) -> Case:
    """Any dims, heads, odd sizes and batches; biases present or absent; gates from flat to one-hot."""
    heads = draw(st.integers(1, 4))
    channels = heads * draw(st.integers(1, max_head))
    batch, height, width = draw(st.integers(1, 3)), draw(st.integers(1, 7)), draw(st.integers(1, 7))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def normal(*shape: int, std: float = 1.0) -> torch.Tensor:
        return std * torch.randn(shape, generator=generator, dtype=torch.float64)

    def bias(size: int, std: float = 1.0) -> torch.Tensor | None:
        return normal(size, std=std) if draw(st.booleans()) else None

    sharpness = draw(st.sampled_from([0.0, 1.0, 30.0]))
    scale = channels**-0.5
    gate = SaliencyGate(
        heads=heads,
        key=normal(channels, channels, std=scale),
        gate=normal(heads, channels, std=scale * sharpness),
        value=normal(channels, channels, std=scale),
        out=normal(channels, channels, std=scale),
        key_bias=bias(channels),
        gate_bias=bias(heads, std=100.0),
        value_bias=bias(channels),
        out_bias=bias(channels),
    )
    return Case(gate, normal(batch, channels, height, width))


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-3))


def _as_trained(case: Case, dtype: torch.dtype) -> torch.Tensor:
    """The formulas, gate bias included, in ``dtype``."""
    gate, x = case.gate, case.x.to(dtype).flatten(2)

    def linear(weight: torch.Tensor, bias: torch.Tensor | None, data: torch.Tensor) -> torch.Tensor:
        mapped = weight.to(dtype) @ data
        return mapped if bias is None else mapped + bias.to(dtype)[:, None]

    key = linear(gate.key, gate.key_bias, x)
    weights = linear(gate.gate, gate.gate_bias, key).softmax(-1)
    value = linear(gate.value, gate.value_bias, x).unflatten(1, (gate.heads, -1))
    context = (value * weights.unsqueeze(2)).sum(-1).flatten(1)
    return linear(gate.out, gate.out_bias, key * context[:, :, None]).reshape(case.x.shape)


FORMS = [pytest.param(load_form(name), id=name) for name in form_names()]


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("form", FORMS)
@given(case=cases())
@settings(max_examples=60, deadline=None)
def test_every_form_agrees_with_the_reference_in_both_layouts(form, dtype, case):
    expected = _as_trained(case, torch.float64)
    gate = read_gate(case.gate)
    assert _difference(reference(gate, case.x.flatten(2)).reshape(case.x.shape), expected) < 1e-10
    x = case.x.to(dtype)
    # a gate that is nearly one-hot magnifies float32's rounding in the module as trained, too
    limit = max(LIMITS[dtype], 4 * _difference(_as_trained(case, dtype).double(), expected))
    assert _difference(form.on_maps(gate, dtype=dtype)(x).double(), expected) < limit
    channels_last = OnTokens(form.on_tokens(gate, dtype=dtype))(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    assert _difference(channels_last.double(), expected) < limit


@given(case=cases(), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_affine_part_folds_into_key_and_value(case, seed):
    generator = torch.Generator().manual_seed(seed)
    channels = case.x.shape[1]
    gamma, beta = (torch.randn(channels, generator=generator, dtype=torch.float64) for _ in range(2))
    gate, z = read_gate(case.gate), case.x.flatten(2)
    expected = reference(gate, z * gamma[:, None] + beta[:, None])
    assert _difference(reference(fold_affine_into_gate(gate, gamma=gamma, beta=beta), z), expected) < 1e-10


@given(case=cases())
@settings(max_examples=40, deadline=None)
def test_a_centred_map_is_the_same_on_centred_input_and_carries_a_bias_on_a_constant(case):
    z = case.x.flatten(2)
    z = z - z.mean(1, keepdim=True)
    weight, channels = case.gate.key, z.shape[1]
    bias = torch.linspace(-1, 1, channels, dtype=torch.float64)
    assert torch.allclose(centre(weight) @ z, weight @ z, atol=1e-10)
    assert torch.allclose(absorb_bias(weight, bias) @ (z + 1 / channels), weight @ z + bias[:, None], atol=1e-10)


def _layer(case: Case, *, seed: int, affine: bool) -> tuple[SaliencyLayer, nn.Module]:
    generator = torch.Generator().manual_seed(seed)
    channels = case.x.shape[1]

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64) * shape[-1] ** -0.5

    norms = [
        Norm(normal(channels) if affine else None, normal(channels) if affine else None, eps) for eps in (1e-5, 1e-6)
    ]
    layer = SaliencyLayer(
        attention=case.gate,
        norm1=norms[0],
        norm2=norms[1],
        expand=normal(3 * channels, channels),
        project=normal(channels, 3 * channels),
        expand_bias=normal(3 * channels) if affine else None,
    )

    def as_trained(x: torch.Tensor) -> torch.Tensor:
        def norm(y: torch.Tensor, part: Norm) -> torch.Tensor:
            return F.layer_norm(y.permute(0, 2, 3, 1), (channels,), part.weight, part.bias, part.eps).permute(
                0, 3, 1, 2
            )

        x = x + _as_trained(Case(case.gate, norm(x, layer.norm1)), torch.float64)
        hidden = F.gelu(F.conv2d(norm(x, layer.norm2), layer.expand[:, :, None, None], layer.expand_bias))
        return x + F.conv2d(hidden, layer.project[:, :, None, None])

    return layer, as_trained


@pytest.mark.parametrize("form", FORMS)
@given(case=cases(), seed=st.integers(0, 1000), affine=st.booleans())
@settings(max_examples=40, deadline=None)
def test_whole_layers_agree_with_the_layer_as_trained(form, case, seed, affine):
    stated, as_trained = _layer(case, seed=seed, affine=affine)
    layer, expected = read_layer(stated), as_trained(case.x)
    for sums_to_one in (True, False):
        found = TokenLayer(layer, form, dtype=torch.float64, sums_to_one=sums_to_one)(case.x)
        assert _difference(found, expected) < 1e-10
    assert _difference(MapLayer(layer, form, dtype=torch.float64)(case.x), expected) < 1e-10


@pytest.mark.parametrize("form", FORMS)
def test_whole_layers_agree_in_float32(form):
    torch.manual_seed(0)
    original = AttentionLayer(64)
    for parameter in original.parameters():
        nn.init.normal_(parameter, std=0.2)
    x = torch.randn(2, 64, 9, 11)
    with torch.no_grad():
        expected = original.double()(x.double())
        layer = read_layer(original.saliency_layer())
        for module in (TokenLayer(layer, form), TokenLayer(layer, form, sums_to_one=False), MapLayer(layer, form)):
            assert _difference(module(x).double(), expected) < 1e-5


def test_the_family_names_its_own_tensors():
    torch.manual_seed(0)
    attention = KeyOnlyAttention(32, 2).double()
    x = torch.randn(2, 32, 3, 5, dtype=torch.float64)
    with torch.no_grad():
        expected = attention(x)
        assert (
            _difference(reference(read_gate(attention.saliency_gate()), x.flatten(2)).reshape(x.shape), expected)
            < 1e-12
        )
