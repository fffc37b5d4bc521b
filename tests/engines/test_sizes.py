"""Which heights and widths an engine serves: what is accepted, and what is said about the rest."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linglos_deploy.engines.options import EngineOptions
from linglos_deploy.engines.profiles import parse_input_shape
from linglos_deploy.engines.sizes import (
    SizeProfile,
    around,
    check_covers,
    check_fit,
    format_size_profile,
    parse_size_profile,
)
from linglos_deploy.errors import UsageError
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.pipeline import check_sizes

SIDES = st.integers(1, 4096)


@st.composite
def profiles(draw: st.DrawFn) -> SizeProfile:
    heights, widths = (sorted(draw(st.tuples(SIDES, SIDES, SIDES))) for _ in range(2))
    smallest, best, largest = zip(heights, widths, strict=True)
    return smallest, best, largest


@given(profiles())
def test_a_profile_is_read_back_as_it_was_written(profile: SizeProfile):
    assert parse_size_profile(format_size_profile(profile)) == profile


def test_one_side_is_a_square_and_one_size_serves_only_that():
    assert parse_size_profile("224") == ((224, 224),) * 3
    assert parse_size_profile("160x224") == ((160, 224),) * 3
    assert parse_size_profile(" 160, 224X256 ,0512 ") == ((160, 160), (224, 256), (512, 512))


@pytest.mark.parametrize(
    "text", ["", "big", "160,224", "160,224,320,512", "160,,512", "0,224,512", "-32,224,512", "1x2x3", "x224", "22.4"]
)
def test_other_text_is_refused_with_an_example(text: str):
    with pytest.raises(UsageError) as caught:
        parse_size_profile(text)
    assert caught.value.found == text
    assert "--size-profile 160,224,512" in (caught.value.next_step or "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("160,512,224", "the best height, 512, is above the largest, 224"),
        ("224,160,512", "the best height, 160, is below the smallest, 224"),
        ("512,224,160", "the smallest height, 512, is above the largest, 160"),
        ("160x320,224x256,512x512", "the best width, 256, is below the smallest, 320"),
    ],
)
def test_a_profile_that_falls_says_where(text: str, words: str):
    with pytest.raises(UsageError, match="rises") as caught:
        parse_size_profile(text)
    assert words in (caught.value.found or "")


def test_a_graph_of_a_fixed_size_takes_no_size_profile():
    with pytest.raises(UsageError, match="dynamic resolution") as caught:
        check_fit(parse_size_profile("160,224,512"), dynamic=False, divisor=32)
    assert "--dynamic" in (caught.value.next_step or "")


@given(profiles(), st.integers(1, 64))
def test_sizes_that_the_model_cannot_take_come_with_the_nearest_profile_that_it_can(profile: SizeProfile, divisor: int):
    if all(side % divisor == 0 for size in profile for side in size):
        check_fit(profile, dynamic=True, divisor=divisor)
        return
    with pytest.raises(UsageError, match="does not fit the model") as caught:
        check_fit(profile, dynamic=True, divisor=divisor)
    assert f"divisible by {divisor}" in (caught.value.expected or "")
    suggested = parse_size_profile((caught.value.next_step or "").removeprefix("--size-profile "))
    check_fit(suggested, dynamic=True, divisor=divisor)
    for asked, given_instead in zip(profile[2], suggested[2], strict=True):
        assert given_instead >= asked


@pytest.mark.parametrize("size", [(128, 224), (224, 544)])
def test_a_bundle_must_be_served_at_the_size_it_resizes_to(size: tuple[int, int]):
    profile = parse_size_profile("160,224,512")
    check_covers(profile, (160, 512))
    with pytest.raises(UsageError, match="leaves out") as caught:
        check_covers(profile, size)
    assert f"{size[0]}x{size[1]}" in (caught.value.found or "")


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 64))
def test_what_is_served_unasked_fits_the_model_and_holds_its_own_size(rows: int, columns: int, divisor: int):
    size = (rows * divisor, columns * divisor)
    profile = around(size, divisor)
    check_fit(profile, dynamic=True, divisor=divisor)
    check_covers(profile, size)
    assert parse_size_profile(format_size_profile(profile))[1] == size


@pytest.mark.parametrize(
    ("shapes", "pixels", "fits"),
    [
        (("image=1x3x160x160:1x3x224x224:1x3x320x320",), False, True),
        (("image=1x3x160x160",), False, False),
        (("image=1x3x160x160", "image=1x3x224x224"), False, True),
        (("image=1x224x224x3",), True, True),
        (("image=1x160x224x3",), True, False),
        (("mask=1x7",), False, True),
    ],
)
def test_shapes_of_an_export_must_hold_the_size_to_which_the_bundle_resizes(
    shapes: tuple[str, ...], pixels: bool, fits: bool
):
    options = EngineOptions(shapes=tuple(map(parse_input_shape, shapes)))
    graph = ExportConfig(dynamic=True, embed_preprocessing=pixels)
    request: Any = SimpleNamespace(engine_options=options, graph=graph)
    model: Any = SimpleNamespace(size_divisor=32, preprocess=SimpleNamespace(input_size=(224, 224)))
    if fits:
        check_sizes(request, model)
    else:
        with pytest.raises(UsageError, match="leaves out"):
            check_sizes(request, model)
