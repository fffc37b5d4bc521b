"""Which shapes an engine is opened and measured with, unasked."""

from __future__ import annotations

from linglos_deploy.engines.served import served_signature, tuned_shapes
from linglos_deploy.engines.spec import ShapeRange
from linglos_deploy.signature import Dim, ModelSignature, TensorSpec, unnamed


def signature(**inputs: tuple[Dim, ...]) -> ModelSignature:
    return ModelSignature(tuple(TensorSpec(name, "float32", shape) for name, shape in inputs.items()), ())


TOKENS = signature(tokens=("batch", "length"), state=(2, "batch", 64))
PROFILE = {
    "tokens": ShapeRange((1, 16), (2, 32), (8, 64)),
    "state": ShapeRange((2, 1, 64), (2, 2, 64), (2, 8, 64)),
}
LONG = {"tokens": ShapeRange((16, 128), (16, 128), (16, 128)), "state": ShapeRange(*((2, 16, 64),) * 3)}


def test_axes_of_one_size_in_all_profiles_are_fixed_and_others_are_not() -> None:
    served = served_signature(TOKENS, [LONG])
    assert [spec.shape for spec in served.inputs] == [(16, 128), (2, 16, 64)]
    served = served_signature(TOKENS, [LONG, PROFILE])
    assert [spec.shape for spec in served.inputs] == [("batch", "length"), (2, "batch", 64)]
    assert served_signature(TOKENS, []) == TOKENS


def test_an_engine_is_measured_at_the_shapes_it_is_tuned_for_with_the_batch_of_the_plan() -> None:
    assert tuned_shapes(TOKENS, [PROFILE], batch=4, image_size=None) == {"tokens": (4, 32), "state": (2, 4, 64)}


def test_of_several_profiles_the_first_that_serves_the_batch_is_taken() -> None:
    shapes = tuned_shapes(TOKENS, [PROFILE, LONG], batch=16, image_size=None)
    assert shapes == {"tokens": (16, 128), "state": (2, 16, 64)}
    assert tuned_shapes(TOKENS, [PROFILE, LONG], batch=99, image_size=None)["tokens"] == (99, 32), (
        "running says why not"
    )


def test_images_have_the_size_that_was_asked_for_where_the_engine_leaves_it_open() -> None:
    image = signature(image=(unnamed("image", 0), 3, unnamed("image", 2), unnamed("image", 3)))
    profile = {"image": ShapeRange((1, 3, 32, 32), (1, 3, 64, 96), (8, 3, 128, 128))}
    assert tuned_shapes(image, [profile], batch=2, image_size=None) == {"image": (2, 3, 64, 96)}
    assert tuned_shapes(image, [profile], batch=2, image_size=(32, 48)) == {"image": (2, 3, 32, 48)}


def test_an_engine_without_profiles_says_nothing() -> None:
    assert tuned_shapes(signature(x=(1, 2)), [], batch=1, image_size=None) == {}
