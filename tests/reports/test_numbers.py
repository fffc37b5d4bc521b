from __future__ import annotations

import doctest
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linglos_deploy.reports import numbers
from linglos_deploy.reports.numbers import file_size, significant, similarity


def test_the_examples_in_the_docs_hold() -> None:
    assert doctest.testmod(numbers).failed == 0


@given(st.floats(1e-12, 1e12))
def test_three_digits_are_within_half_a_percent(value: float) -> None:
    assert float(significant(value)) == pytest.approx(value, rel=0.00501)


def test_zero_and_what_is_not_finite_are_shown_as_they_are() -> None:
    assert [significant(value) for value in (0.0, math.inf, math.nan)] == ["0", "inf", "nan"]


@given(st.integers(0, 2**50))
def test_sizes_have_at_most_four_digits_before_the_point(size: int) -> None:
    assert len(file_size(size).split()[0].split(".")[0]) <= 4


@given(st.floats(0.0, 0.999999999))
def test_a_cosine_below_one_is_never_shown_as_one(cosine: float) -> None:
    assert float(similarity(cosine)) < 1
