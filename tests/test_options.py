"""Option texts become values, or a message that says how to write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linglos_deploy import options
from linglos_deploy.choices import Precision, resolve_precision
from linglos_deploy.engines.options import parse_batch_profile
from linglos_deploy.errors import UsageError

SIDES = st.integers(1, 10_000)


@given(SIDES, SIDES, st.sampled_from(["x", ",", "X"]))
def test_an_image_size_is_read_back(height: int, width: int, separator: str) -> None:
    assert options.parse_size(f" {height}{separator}{width} ") == (height, width)
    assert options.parse_size(str(height)) == (height, height)


@given(st.lists(st.integers(1, 1000), min_size=1))
def test_numbers_are_read_back(numbers: list[int]) -> None:
    assert options.parse_numbers(",".join(map(str, numbers)), option="--batch") == tuple(numbers)


@pytest.mark.parametrize(
    ("text", "count"), [("4", 4 << 30), ("512M", 512 << 20), ("2g", 2 << 30), ("1.5GiB", 3 << 29), ("64K", 64 << 10)]
)
def test_memory_sizes_are_gib_or_have_a_unit(text: str, count: int) -> None:
    assert options.parse_bytes(text, option="--workspace") == count


@pytest.mark.parametrize("text", ["86,89,120", "8.6,8.9,12.0", " 86, 8.9 ,120"])
def test_compute_capabilities_may_have_a_dot(text: str) -> None:
    assert options.parse_capabilities(text) == ("8.6", "8.9", "12.0")


def test_nothing_given_is_nothing_chosen() -> None:
    assert options.parse_size(None) is None
    assert options.parse_bytes(None, option="--workspace") is None
    assert options.parse_capabilities(None) == ()


@pytest.mark.parametrize("text", ["", "8,1,2", "0", "1,2", "one", "1,8,32,64"])
def test_a_batch_profile_rises(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_batch_profile(text)
    assert caught.value.found == text


def test_one_number_is_a_profile_of_that_batch() -> None:
    assert parse_batch_profile("8") == (8, 8, 8)
    assert parse_batch_profile("1,8,32") == (1, 8, 32)


@pytest.mark.parametrize(
    ("given_precision", "half", "int8", "expected"),
    [
        (None, False, False, Precision.FP32),
        (None, True, False, Precision.FP16),
        (None, False, True, Precision.INT8),
        (None, True, True, Precision.INT8_FP16),
        (Precision.BF16, False, False, Precision.BF16),
        (Precision.INT8, False, True, Precision.INT8),
    ],
)
def test_shortcuts_stand_for_precisions(
    given_precision: Precision | None, half: bool, int8: bool, expected: Precision
) -> None:
    assert resolve_precision(given_precision, half=half, int8=int8) is expected


def test_a_precision_that_contradicts_its_shortcut_is_refused() -> None:
    with pytest.raises(UsageError, match="given twice"):
        resolve_precision(Precision.FP16, half=False, int8=True)
