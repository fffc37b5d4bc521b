from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linglos_deploy.errors import CheckpointError
from linglos_deploy.images.preprocessing import Interpolation, PreprocessSpec
from linglos_deploy.models.metadata import CheckpointMetadata, format_metadata, parse_metadata
from tests.models.conftest import TINY, TINY_LABELS, TINY_PREPROCESS

sizes = st.integers(1, 4096)
stages = st.tuples(sizes, sizes, sizes, sizes)
unit = st.floats(0.01, 1)
metadata = st.builds(
    CheckpointMetadata,
    variant=st.none() | st.sampled_from("tsmb"),
    dims=st.none() | stages,
    depths=st.none() | stages,
    num_classes=st.none() | sizes,
    image_size=st.none() | st.tuples(sizes, sizes),
    mean=st.none() | st.tuples(unit, unit, unit),
    std=st.none() | st.tuples(unit, unit, unit),
    crop_pct=st.none() | unit,
    interpolation=st.none() | st.sampled_from(Interpolation),
    labels=st.none() | st.lists(st.text(), max_size=3).map(tuple),
)


@given(metadata)
def test_metadata_survives_being_written_as_text(said: CheckpointMetadata) -> None:
    entries = format_metadata(said)
    assert all(isinstance(value, str) for value in entries.values())
    assert parse_metadata(entries, source="x") == said


@given(st.dictionaries(st.sampled_from([*CheckpointMetadata.__dataclass_fields__, "note"]), st.text()))
def test_any_text_is_understood_or_refused_with_a_checkpoint_error(entries: dict[str, str]) -> None:
    with contextlib.suppress(CheckpointError):
        assert isinstance(parse_metadata(entries, source="x"), CheckpointMetadata)


def test_plain_values_are_understood_as_pickles_hold_them() -> None:
    said = parse_metadata({"dims": [8, 16, 24, 32], "image_size": 64, "mean": (0.5, 0.5, 0.5), "epoch": 3}, source="x")
    assert said == CheckpointMetadata(dims=(8, 16, 24, 32), image_size=(64, 64), mean=(0.5, 0.5, 0.5))


def test_null_and_absence_say_nothing() -> None:
    assert parse_metadata({"mean": None, "format": "pt"}, source="x") == CheckpointMetadata()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("dims", "[8, 16, 24]", "Expected `array` of length 4"),
        ("dims", "large", r"Expected `array.*got `str` - at `\$.dims`"),
        ("num_classes", "ten", r"Expected `int.*\$.num_classes"),
        ("num_classes", "true", r"Expected `int.*\$.num_classes"),
        ("labels", "[1, 2]", r"Expected `str`, got `int` - at `\$.labels"),
        ("interpolation", "lanczos", "Invalid enum value 'lanczos'"),
        ("crop_pct", "1.5", r"crop_pct must be in \(0, 1\]"),
        ("std", "[1, 1, 0]", "std must be above 0"),
        ("image_size", "[0, 64]", "input size must be a height and a width"),
        ("variant", "xl", "unknown variant"),
    ],
)
def test_a_wrong_value_is_named(key: str, value: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        parse_metadata({key: value}, source="best.safetensors")


def test_preprocessing_takes_what_is_said_and_defaults_for_the_rest() -> None:
    said = CheckpointMetadata(crop_pct=1.0, interpolation=Interpolation.BILINEAR)
    assert said.preprocess((32, 64)) == PreprocessSpec((32, 64), interpolation=Interpolation.BILINEAR, crop_pct=1.0)


def test_all_that_there_is_to_say_restores_preprocessing_and_labels() -> None:
    said = CheckpointMetadata.of(TINY, TINY_PREPROCESS, labels=TINY_LABELS)
    assert said.preprocess(said.image_size or (0, 0)) == TINY_PREPROCESS
    assert (said.dims, said.depths, said.num_classes, said.labels) == (TINY.dims, TINY.depths, 5, TINY_LABELS)
