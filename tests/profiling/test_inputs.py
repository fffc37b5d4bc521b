from __future__ import annotations

import numpy as np

from linglos_deploy.profiling.inputs import fixed_image_size, image_size_of
from linglos_deploy.signature import ModelSignature, TensorSpec


def takes(dtype: str, *shape: int | str) -> ModelSignature:
    return ModelSignature((TensorSpec("image", dtype, shape),), ())


def test_only_a_fixed_image_size_is_reported_as_fixed() -> None:
    assert fixed_image_size(takes("float32", "batch", 3, 8, 9)) == (8, 9)
    assert fixed_image_size(takes("uint8", "batch", 8, 9, 3)) == (8, 9)
    assert fixed_image_size(takes("float32", "batch", 8, 9, 1)) == (8, 9)
    assert fixed_image_size(takes("float32", "batch", 3, "height", "width")) is None
    assert fixed_image_size(takes("float32", "batch", 576)) is None


def test_the_image_size_of_an_input_is_read_in_either_layout() -> None:
    assert image_size_of({"x": np.zeros((2, 3, 8, 9), np.float32)}) == (8, 9)
    assert image_size_of({"x": np.zeros((2, 8, 9, 3), np.float32)}) == (8, 9)
    assert image_size_of({"x": np.zeros((2, 3))}) is None
