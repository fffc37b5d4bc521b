from __future__ import annotations

import pytest

from linglos_deploy.errors import UsageError
from linglos_deploy.models.linglo import unloaded_linglo
from linglos_deploy.models.variants import VARIANTS, LinGloConfig, head_count, variant_config


@pytest.mark.parametrize(
    ("name", "millions"),
    [("t", 2.0), ("s", 5.3), ("m", 10.3), ("b", 26.3), ("b0", 3.4), ("b1", 13.1), ("b2", 25.4)],
)
def test_variants_have_the_documented_number_of_parameters(name: str, millions: float) -> None:
    count = sum(parameter.numel() for parameter in unloaded_linglo(VARIANTS[name]).parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.02)


def test_one_head_serves_32_channels_and_none_goes_without() -> None:
    assert [head_count(dim) for dim in (8, 32, 63, 64, 160)] == [1, 1, 1, 2, 5]


@pytest.mark.parametrize(
    ("wrong", "offered"),
    [
        ("x", "s"),
        ("S", "s"),
        ("tiny", "t"),
        ("linglo_m", "m"),
        ("linglos-b", "b"),
        ("bsae", "b"),
        ("large", "b"),
        ("LinGlo-b1", "b1"),
        ("B2", "b2"),
    ],
)
def test_an_unknown_variant_is_answered_with_the_nearest(wrong: str, offered: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean '--variant {offered}'"):
        variant_config(wrong)


@pytest.mark.parametrize(
    "sizes",
    [
        {"dims": (32, 64, 128), "depths": (1, 1, 1)},
        {"dims": (32, 64, 128, 192), "depths": (1, 1, 0, 1)},
        {"dims": (33, 64, 128, 192), "depths": (1, 1, 1, 1)},
        {"dims": (32, 65, 128, 192), "depths": (1, 1, 1, 1)},
        {"dims": (32, 64, 128, 192), "depths": (1, 1, 1, 1), "num_classes": 0},
    ],
)
def test_impossible_sizes_are_refused(sizes: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        LinGloConfig(**sizes)  # type: ignore[arg-type]
