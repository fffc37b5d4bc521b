"""Random input of a model's kind. Dense networks take the same time for every image, so no real ones are needed."""

from __future__ import annotations

import numpy as np

from linglos_deploy.errors import DataError
from linglos_deploy.signature import Batch, Dim, ModelSignature, TensorSpec

DEFAULT_IMAGE_SIZE = (224, 224)


def random_batch(
    signature: ModelSignature, *, batch: int, image_size: tuple[int, int] | None, seed: int
) -> dict[str, np.ndarray]:
    """Return one array per input: normal numbers for floats, uniform ones for unsigned bytes.

    Args:
        signature: Of the model.
        batch: Size of the first axis of every input.
        image_size: Height and width where the model takes any; 224 x 224 if ``None``.
        seed: Of the random numbers.

    Raises:
        DataError: The model's sizes are fixed and others, or an input's element type is neither.
    """
    generator = np.random.default_rng(seed)
    return {
        spec.name: _random(spec, _shape(spec, batch=batch, image_size=image_size), generator)
        for spec in signature.inputs
    }


def fixed_image_size(signature: ModelSignature) -> tuple[int, int] | None:
    """Return the height and width that a model insists on; ``None`` if it takes any."""
    for spec in signature.inputs:
        if len(spec.dims) == 4:
            height, width = spec.dims[1:3] if _channels_last(spec.dtype) else spec.dims[2:4]
            if isinstance(height, int) and isinstance(width, int):
                return height, width
    return None


def image_size_of(batch: Batch) -> tuple[int, int] | None:
    """Return the height and width of the first N x 3 x H x W or N x H x W x 3 array."""
    for array in batch.values():
        if array.ndim == 4:
            height, width = array.shape[1:3] if _channels_last(array.dtype.name) else array.shape[2:4]
            return int(height), int(width)
    return None


def _shape(spec: TensorSpec, *, batch: int, image_size: tuple[int, int] | None) -> tuple[int, ...]:
    wanted: list[int | None] = [batch, *[None] * (len(spec.dims) - 1)]
    if len(spec.dims) == 4:
        first = 1 if _channels_last(spec.dtype) else 2
        wanted[first : first + 2] = image_size or (None, None)
    default = dict(zip((1, 2) if _channels_last(spec.dtype) else (2, 3), DEFAULT_IMAGE_SIZE, strict=True))
    return tuple(_size(spec, axis, dim, wanted[axis], default.get(axis)) for axis, dim in enumerate(spec.dims))


def _size(spec: TensorSpec, axis: int, dim: Dim, wanted: int | None, default: int | None) -> int:
    if isinstance(dim, str):
        size = wanted or default
        if size is None:
            raise DataError(
                f"Axis {axis} of '{spec.name}' may have any size; none was asked for.", found=spec.describe()
            )
        return size
    if wanted is not None and wanted != dim:
        raise DataError(
            f"The model takes no such input: axis {axis} of '{spec.name}' is fixed.",
            found=f"{wanted} asked for",
            expected=spec.describe(),
            next_step="measure with that size, or export the model with dynamic sizes",
        )
    return dim


def _random(spec: TensorSpec, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    if spec.dtype == "uint8":
        return generator.integers(0, 256, shape, dtype=np.uint8)
    if spec.dtype in {"float32", "float16"}:
        return generator.standard_normal(shape, dtype=np.float32).astype(spec.dtype, copy=False)
    raise DataError(f"No random input can be made for '{spec.name}'.", found=spec.dtype, expected="float32 or uint8")


def _channels_last(dtype: str) -> bool:
    """Graphs with embedded preprocessing take bytes, channels last; all others take floats, channels first."""
    return dtype == "uint8"
