from __future__ import annotations

from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st

from linglos_deploy.models.linglo import unloaded_linglo
from linglos_deploy.models.mismatch import compare, explain_factory_mismatch, explain_mismatch
from linglos_deploy.models.variants import VARIANTS, LinGloConfig

states = st.dictionaries(
    st.sampled_from("abcdef"), st.lists(st.integers(1, 2), max_size=2).map(torch.zeros), max_size=6
)


@given(states)
def test_weights_fit_themselves(state: dict[str, torch.Tensor]) -> None:
    assert not compare(state, state)
    assert compare(state, state).describe() == ""


@given(states, states)
def test_what_is_missing_one_way_is_unexpected_the_other_way(
    first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]
) -> None:
    there, back = compare(first, second), compare(second, first)
    assert set(there.missing) == set(back.unexpected)
    assert set(there.unexpected) == set(back.missing)
    assert {(name, wanted, found) for name, found, wanted in there.reshaped} == set(back.reshaped)
    assert len(there.missing) + len(there.unexpected) == len(first.keys() ^ second.keys())


def test_the_first_names_are_shown_and_the_others_counted() -> None:
    found = {"same": torch.zeros(1), "head": torch.zeros(10, 4), **{f"extra.{i}": torch.zeros(1) for i in range(5)}}
    expected = {"same": torch.zeros(1), "head": torch.zeros(5, 4), "stem": torch.zeros(())}
    assert compare(found, expected).describe() == (
        "1 missing (stem); 5 unexpected (extra.0, extra.1, extra.2 and 2 more); 1 of another shape (head 10x4 for 5x4)"
    )


def test_step_counters_may_be_missing() -> None:
    assert not compare({}, {"stem.0.1.num_batches_tracked": torch.zeros(())})


def explained(config: LinGloConfig, *, variant: str | None, task: str = "classify") -> str:
    tensors = unloaded_linglo(config, task=task).state_dict()
    expected = unloaded_linglo(VARIANTS[variant or "s"]).state_dict()
    return str(explain_mismatch(compare(tensors, expected), tensors, path=Path("best.pt"), variant=variant))


def test_the_error_names_the_nearest_variant_and_the_sizes_found() -> None:
    message = explained(VARIANTS["m"], variant="s")
    assert "'best.pt' does not fit variant 's'" in message
    assert "nearest variant is 'm'" in message
    assert "dims (48, 96, 192, 384) and depths (2, 2, 6, 2)" in message


def test_a_changed_architecture_is_pointed_to_factories() -> None:
    config = LinGloConfig(dims=(32, 64, 160, 256), depths=(1, 2, 5, 1))
    message = explained(config, variant=None)
    assert "nearest variant is 's'" in message
    assert "--model package.module:factory" in message


def test_a_backbone_given_as_a_classifier_is_recognized() -> None:
    assert "--task features" in explained(VARIANTS["s"], variant="s", task="features")


def test_other_networks_are_recognized_as_such() -> None:
    tensors = {"conv1.weight": torch.zeros(64, 3, 7, 7)}
    expected = unloaded_linglo(VARIANTS["t"]).state_dict()
    message = str(explain_mismatch(compare(tensors, expected), tensors, path=Path("resnet.pt"), variant="t"))
    assert "no variant of LinGlo has such weights" in message


def test_a_mismatch_with_a_factory_names_it() -> None:
    error = explain_factory_mismatch(compare({}, {"a": torch.zeros(1)}), path=Path("best.pt"), spec="pkg:build")
    assert "does not fit the model of 'pkg:build'" in str(error)
