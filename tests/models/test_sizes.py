from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from linglos_deploy.errors import CheckpointError
from linglos_deploy.models.checkpoint import Checkpoint
from linglos_deploy.models.linglo import unloaded_linglo
from linglos_deploy.models.metadata import CheckpointMetadata
from linglos_deploy.models.sizes import infer_classes, infer_depths, infer_dims, nearest_variant, resolve_config
from linglos_deploy.models.variants import VARIANTS, LinGloConfig
from tests.models.conftest import TINY

dims = st.tuples(*(st.sampled_from([8, 16, 24, 32, 48, 64]) for _ in range(4)))
depths = st.tuples(*(st.integers(1, 3) for _ in range(4)))
configs = st.builds(LinGloConfig, dims=dims, depths=depths, num_classes=st.integers(1, 40))


def checkpoint(config: LinGloConfig | None = TINY, **said: object) -> Checkpoint:
    tensors = unloaded_linglo(config).state_dict() if config else {"conv1.weight": torch.zeros(8, 3, 7, 7)}
    metadata = CheckpointMetadata(**said)  # type: ignore[arg-type]
    return Checkpoint(path=Path("best.pt"), tensors=tensors, metadata=metadata, entry="", digest="0")


@settings(max_examples=20, deadline=None)
@given(configs)
def test_shapes_alone_tell_the_sizes_of_any_linglo(config: LinGloConfig) -> None:
    assert resolve_config(checkpoint(config), variant=None) == config


@pytest.mark.parametrize("name", VARIANTS)
def test_each_variant_is_nearest_to_itself(name: str) -> None:
    tensors = unloaded_linglo(VARIANTS[name], task="features").state_dict()
    assert nearest_variant(tensors) == (name, 1.0)


def test_nothing_is_inferred_from_other_networks() -> None:
    tensors = checkpoint(None).tensors
    assert (infer_dims(tensors), infer_depths(tensors), infer_classes(tensors)) == (None, None, None)
    assert nearest_variant(tensors)[1] == 0


def test_what_the_checkpoint_says_comes_before_what_its_shapes_tell() -> None:
    said = {"dims": (8, 16, 32, 64), "depths": (2, 2, 2, 2), "num_classes": 7}
    config = resolve_config(checkpoint(**said), variant=None)
    assert (config.dims, config.depths, config.num_classes) == tuple(said.values())


def test_a_variant_named_by_the_checkpoint_decides_unless_it_also_says_sizes() -> None:
    config = resolve_config(checkpoint(variant="m"), variant=None)
    assert (config.dims, config.depths, config.num_classes) == (*sizes("m"), TINY.num_classes)
    config = resolve_config(checkpoint(variant="m", depths=(1, 1, 1, 1)), variant=None)
    assert (config.dims, config.depths) == (VARIANTS["m"].dims, (1, 1, 1, 1))


def test_a_variant_that_was_asked_for_decides_all_but_the_classes() -> None:
    config = resolve_config(checkpoint(dims=(8, 16, 24, 64), variant="t", num_classes=9), variant="b")
    assert (config.dims, config.depths, config.num_classes) == (*sizes("b"), 9)


def sizes(variant: str) -> tuple[object, object]:
    return VARIANTS[variant].dims, VARIANTS[variant].depths


def test_other_networks_are_compared_with_some_variant() -> None:
    assert resolve_config(checkpoint(None), variant=None) in VARIANTS.values()


def test_impossible_sizes_are_the_checkpoint_s_fault() -> None:
    with pytest.raises(CheckpointError, match="impossible LinGlo"):
        resolve_config(replace(checkpoint(), metadata=CheckpointMetadata(dims=(9, 16, 24, 64))), variant=None)
