from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from linglos_deploy.artifacts import OnnxArtifact
from linglos_deploy.backends.trt.profiles import add_profiles
from linglos_deploy.engines.profiles import make_profile
from linglos_deploy.engines.spec import BuildSpec, ShapeRange
from linglos_deploy.errors import BuildError, UsageError
from linglos_deploy.signature import ModelSignature, TensorSpec

IMAGE = ModelSignature((TensorSpec("image", "float32", ("batch", 3, "height", "width")),), ())


class Builder:
    """Takes profiles as a builder does."""

    def __init__(self, answer: int = 0) -> None:
        self.answer = answer
        self.shapes: dict[str, Any] = {}

    def create_optimization_profile(self) -> Builder:
        return self

    def set_shape(self, name: str, *shapes: Any) -> None:
        self.shapes[name] = shapes

    def add_optimization_profile(self, _profile: Any) -> int:
        return self.answer


def test_a_profile_covers_batch_and_resolution():
    profile = make_profile(IMAGE, {"batch": (1, 8, 32), "height": (64, 224, 320), "width": (64, 64, 64)})
    assert profile["image"] == ShapeRange((1, 3, 64, 64), (8, 3, 224, 64), (32, 3, 320, 64))
    builder = Builder()
    add_profiles(builder, builder, BuildSpec(profiles=(profile,)), IMAGE)
    assert builder.shapes == {"image": ((1, 3, 64, 64), (8, 3, 224, 64), (32, 3, 320, 64))}


def test_a_dimension_that_is_not_there_is_named():
    with pytest.raises(UsageError, match="no dynamic dimension 'depth'"):
        make_profile(IMAGE, {"depth": (1, 1, 1)})


def test_a_range_must_ascend():
    with pytest.raises(UsageError, match="min <= opt <= max"):
        make_profile(IMAGE, {"batch": (8, 1, 32), "height": (8, 8, 8), "width": (8, 8, 8)})


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ({"picture": ShapeRange((1,), (1,), (1,))}, "does not name the model's inputs"),
        ({"image": ShapeRange((1, 3), (1, 3), (1, 3))}, "does not fit the input 'image'"),
        ({"image": ShapeRange((1, 4, 8, 8), (1, 4, 8, 8), (1, 4, 8, 8))}, "does not fit the input 'image'"),
    ],
)
def test_a_profile_that_does_not_fit_is_refused(profile: dict[str, ShapeRange], words: str):
    with pytest.raises(UsageError, match=words):
        add_profiles(Builder(), Builder(), BuildSpec(profiles=(profile,)), IMAGE)


def test_a_profile_that_the_builder_refuses_is_a_build_error():
    profile = make_profile(IMAGE, dict.fromkeys(("batch", "height", "width"), (8, 8, 8)))
    with pytest.raises(BuildError, match="refuses an optimization profile"):
        add_profiles(Builder(), Builder(answer=-1), BuildSpec(profiles=(profile,)), IMAGE)


def test_a_fixed_graph_needs_no_profile(tmp_path: Path, linear: OnnxArtifact):
    fixed = ModelSignature((TensorSpec("image", "float32", (1, 3, 8, 8)),), ())
    add_profiles(Builder(), Builder(), BuildSpec(profiles=()), fixed)
