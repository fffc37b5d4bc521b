from __future__ import annotations

import hashlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from linglos_deploy.models.linglo import LinGlo, unloaded_linglo
from linglos_deploy.models.synthetic import random_weights
from linglos_deploy.models.variants import VARIANTS, LinGloConfig
from linglos_deploy.models.weights import assign_weights, state_digest
from tests.models.conftest import TINY


def random_model(config: LinGloConfig, *, seed: int = 0, task: str = "classify") -> LinGlo:
    model = unloaded_linglo(config, task=task)
    assign_weights(model, random_weights(model, seed=seed), source="test")
    return model.eval()


@given(st.integers(0, 2**63))
def test_equal_seeds_give_equal_weights_and_different_seeds_do_not(seed: int) -> None:
    module = torch.nn.Conv2d(3, 4, 3, device="meta")
    first, again, other = (state_digest(random_weights(module, seed=value)) for value in (seed, seed, seed + 1))
    assert first == again != other


def test_weights_are_the_same_numbers_on_every_machine() -> None:
    weights = random_weights(unloaded_linglo(TINY), seed=0)
    expected = "4304d7483bfa72cf"
    assert hashlib.sha256(weights["stages.1.3.attention.gate.weight"].numpy().tobytes()).hexdigest()[:16] == expected


def test_classifier_and_backbone_share_their_weights() -> None:
    classifier = random_weights(unloaded_linglo(TINY), seed=3)
    backbone = random_weights(unloaded_linglo(TINY, task="features"), seed=3)
    assert set(backbone) < set(classifier)
    assert all(torch.equal(classifier[name], value) for name, value in backbone.items())


def test_normalization_layers_are_away_from_their_neutral_values() -> None:
    neutral = LinGlo(TINY).state_dict()
    weights = random_weights(unloaded_linglo(TINY), seed=0)
    layers = [name for name, value in weights.items() if value.ndim == 1]
    assert layers
    assert not [name for name in layers if torch.isclose(weights[name], neutral[name]).all()]
    assert all((weights[name] > 0).all() for name in weights if name.endswith("running_var"))


@pytest.mark.parametrize("variant", ["t", "b"])
def test_logits_of_random_weights_are_neither_huge_nor_flat_nor_blind(variant: str) -> None:
    torch.manual_seed(0)
    coarse = torch.randn(3, 3, 4, 4) + torch.randn(3, 3, 1, 1)
    images = torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bicubic")
    with torch.inference_mode():
        logits = random_model(VARIANTS[variant])(images)
    assert 0.3 < logits.std(dim=1).mean() < 3
    assert logits.abs().max() < 20
    assert (logits - logits.mean(dim=0)).std() > 0.1
