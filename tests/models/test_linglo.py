from __future__ import annotations

import pytest
import torch

from linglos_deploy.errors import UsageError
from linglos_deploy.models.linglo import KeyOnlyAttention, LinGlo, unloaded_linglo
from tests.models.conftest import TINY


def test_a_classifier_returns_one_logit_per_class(tiny_model: LinGlo) -> None:
    assert tiny_model(torch.zeros(2, 3, 64, 96)).shape == (2, TINY.num_classes)


def test_a_backbone_returns_maps_at_strides_4_to_32() -> None:
    with torch.device("meta"):
        maps = unloaded_linglo(TINY, task="features")(torch.zeros(2, 3, 64, 96))
    assert [tuple(value.shape) for value in maps] == [(2, 8, 16, 24), (2, 16, 8, 12), (2, 24, 4, 6), (2, 64, 2, 3)]


def test_a_backbone_has_no_classifier_layers() -> None:
    assert not [name for name in unloaded_linglo(TINY, task="features").state_dict() if name.startswith("head")]


def test_attention_equals_its_formulas_written_out() -> None:
    torch.manual_seed(0)
    layer = KeyOnlyAttention(64, heads=2).double()
    x = torch.randn(3, 64, 2, 5, dtype=torch.float64)
    key = linear(layer.key, x)
    saliency, value = linear(layer.gate, key), linear(layer.value, x)
    gated = torch.empty_like(key)
    for image in range(3):
        for head in range(2):
            weights = saliency[image, head].exp() / saliency[image, head].exp().sum()
            for channel in range(32 * head, 32 * head + 32):
                gated[image, channel] = key[image, channel] * (weights * value[image, channel]).sum()
    torch.testing.assert_close(layer(x), linear(layer.out, gated))


def linear(conv: torch.nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    return torch.einsum("oc,bchw->bohw", conv.weight[:, :, 0, 0], x) + conv.bias[:, None, None]


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(UsageError, match="no task 'sort'"):
        LinGlo(TINY, task="sort")
