"""The tests' own machinery: coverage pauses in foreign calls only, groups stay together, searches search."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType

import pytest
from hypothesis import settings

from tests.scheduling import kept_together
from tests.untraced import untraced


@pytest.fixture
def traced() -> Iterator[list[str]]:
    """Trace with a tracer of our own; what it saw are the names of the functions called."""
    seen: list[str] = []

    def tracer(frame: FrameType, event: str, argument: object) -> None:
        seen.append(frame.f_code.co_name)

    before = sys.gettrace()
    sys.settrace(tracer)
    yield seen
    sys.settrace(before)


def inside() -> int:
    return 3


def outside() -> int:
    return 4


def fails() -> int:
    raise ValueError(inside())


def test_a_tracer_sees_what_is_called_after_a_foreign_call_and_not_what_is_called_in_it(traced: list[str]) -> None:
    foreign: Callable[[], int] = untraced(lambda: inside() + 1)
    assert foreign() + outside() == 8
    assert "inside" not in traced
    assert "outside" in traced


def test_a_tracer_goes_on_after_a_foreign_call_that_fails(traced: list[str]) -> None:
    with pytest.raises(ValueError, match="3"):
        untraced(fails)()
    outside()
    assert "outside" in traced


@pytest.mark.parametrize(
    ("nodeid", "together"),
    [
        ("tests/a/test_b.py::test_c", "tests/a/test_b.py"),
        ("tests/a/test_b.py::test_c[d@e]", "tests/a/test_b.py"),
        ("tests/a/test_b.py::test_c[d@e]@f", "f"),
        ("tests/a/test_b.py::test_c@f", "f"),
    ],
)
def test_a_group_stays_together_and_so_does_a_module(nodeid: str, together: str) -> None:
    assert kept_together(nodeid) == together


def test_examples_are_the_same_every_time_unless_a_run_searches_in_continuous_integration_too() -> None:
    assert settings.get_profile("steady").derandomize
    assert not settings.get_profile("search").derandomize
