from __future__ import annotations

import numpy as np
import pytest

from linglos_deploy.errors import DataError
from linglos_deploy.profiling.inputs import fixed_image_size, image_size_of, random_batch
from linglos_deploy.signature import ModelSignature, TensorSpec


def takes(dtype: str, *shape: int | str) -> ModelSignature:
    return ModelSignature((TensorSpec("image", dtype, shape),), ())


def test_input_fits_the_signature_whatever_is_fixed_and_whatever_is_free() -> None:
    for signature, size in [
        (takes("float32", "batch", 3, 32, 48), None),
        (takes("float32", 2, 3, "height", "width"), (32, 48)),
        (takes("uint8", "batch", 32, 48, 3), (32, 48)),
        (takes("float16", "batch", 3, "height", "width"), (32, 48)),
    ]:
        batch = random_batch(signature, batch=2, image_size=size, seed=0)
        signature.check_inputs(batch)
        assert image_size_of(batch) == (32, 48)


def test_the_same_seed_gives_the_same_input() -> None:
    signature = takes("float32", "batch", 3, 8, 8)
    first, again, other = (random_batch(signature, batch=1, image_size=None, seed=seed)["image"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_images_of_any_size_default_to_224() -> None:
    batch = random_batch(takes("uint8", "batch", "height", "width", 3), batch=1, image_size=None, seed=0)
    assert batch["image"].shape == (1, 224, 224, 3)


def test_a_fixed_size_that_is_not_the_wanted_one_is_refused() -> None:
    with pytest.raises(DataError, match="axis 0 of 'image' is fixed"):
        random_batch(takes("float32", 1, 3, 8, 8), batch=2, image_size=None, seed=0)
    with pytest.raises(DataError, match="axis 3 of 'image' is fixed"):
        random_batch(takes("float32", 1, 3, 8, 8), batch=1, image_size=(8, 9), seed=0)


def test_sizes_and_types_nobody_can_guess_are_refused() -> None:
    with pytest.raises(DataError, match="may have any size"):
        random_batch(takes("float32", "batch", "tokens"), batch=1, image_size=None, seed=0)
    with pytest.raises(DataError, match="No random input"):
        random_batch(takes("int64", "batch"), batch=1, image_size=None, seed=0)


def test_only_a_fixed_image_size_is_reported_as_fixed() -> None:
    assert fixed_image_size(takes("float32", "batch", 3, 8, 9)) == (8, 9)
    assert fixed_image_size(takes("uint8", "batch", 8, 9, 3)) == (8, 9)
    assert fixed_image_size(takes("float32", "batch", 3, "height", "width")) is None
    assert image_size_of({"x": np.zeros((2, 3))}) is None
