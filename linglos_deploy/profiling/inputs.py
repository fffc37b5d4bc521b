"""Random input of a model's kind. Dense networks take the same time for every image, so no real ones are needed."""

from __future__ import annotations

from linglos_deploy.images.layout import likely_layout
from linglos_deploy.signature import Batch, ModelSignature, TensorSpec


def fixed_image_size(signature: ModelSignature) -> tuple[int, int] | None:
    """Return the height and width that a model insists on; ``None`` if it takes any."""
    for spec in signature.inputs:
        layout = likely_layout(spec)
        if layout is not None:
            height, width = (spec.dims[axis] for axis in layout.spatial_axes)
            if isinstance(height, int) and isinstance(width, int):
                return height, width
    return None


def image_size_of(batch: Batch) -> tuple[int, int] | None:
    """Return the height and width of the first array that can be a batch of images."""
    for name, array in batch.items():
        layout = likely_layout(TensorSpec(name, array.dtype.name, array.shape))
        if layout is not None:
            height, width = (array.shape[axis] for axis in layout.spatial_axes)
            return int(height), int(width)
    return None
