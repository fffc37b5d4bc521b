"""Optimization profiles: which shapes an engine serves, and for which it is tuned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from linglos_deploy.backends.base import BuildSpec, ShapeRange
from linglos_deploy.errors import BuildError, UsageError
from linglos_deploy.signature import ModelSignature, TensorSpec

Range = tuple[int, int, int]
"""Smallest, best and largest size of one dimension."""


def make_profile(
    signature: ModelSignature, sizes: Mapping[str, Range], *, default: Range = (1, 1, 1)
) -> dict[str, ShapeRange]:
    """Return a profile from a range per dynamic dimension.

    >>> image = TensorSpec("image", "float32", ("batch", 3, 64, 64))
    >>> make_profile(ModelSignature((image,), ()), {"batch": (1, 8, 32)})
    {'image': ShapeRange(min=(1, 3, 64, 64), opt=(8, 3, 64, 64), max=(32, 3, 64, 64))}

    Args:
        signature: The inputs to cover.
        sizes: Range of each dynamic dimension, by its name in the signature.
        default: Range of dynamic dimensions that ``sizes`` does not name.

    Raises:
        UsageError: ``sizes`` names a dimension that the inputs do not have, or a range is not ascending.
    """
    known = {dim for spec in signature.inputs for dim in spec.dims if isinstance(dim, str)}
    if unknown := set(sizes) - known:
        raise UsageError(
            f"The model has no dynamic dimension '{min(unknown)}'.",
            expected=", ".join(sorted(known)) or "none: all its sizes are fixed",
        )
    return {spec.name: _shape_range(spec, sizes, default) for spec in signature.inputs}


def add_profiles(builder: Any, config: Any, spec: BuildSpec, signature: ModelSignature) -> None:
    """Give the profiles of ``spec`` to the builder.

    Raises:
        UsageError: A profile does not fit the inputs, or there is none and an input has a dynamic dimension.
        BuildError: The builder refuses a profile.
    """
    dynamic = [tensor for tensor in signature.inputs if any(isinstance(dim, str) for dim in tensor.dims)]
    if not spec.profiles and dynamic:
        raise UsageError(
            f"Input '{dynamic[0].name}' has dynamic dimensions; the engine needs a profile.",
            found=dynamic[0].describe(),
            next_step="--profile 1,8,32 (smallest, best and largest batch)",
        )
    for shapes in spec.profiles:
        _check_profile(shapes, signature)
        profile = builder.create_optimization_profile()
        for name, shape in shapes.items():
            profile.set_shape(name, shape.min, shape.opt, shape.max)
        if config.add_optimization_profile(profile) < 0:
            raise BuildError("The builder refuses an optimization profile.", found=str(dict(shapes)))


def _shape_range(spec: TensorSpec, sizes: Mapping[str, Range], default: Range) -> ShapeRange:
    low, best, high = (
        tuple(dim if isinstance(dim, int) else sizes.get(dim, default)[position] for dim in spec.dims)
        for position in range(3)
    )
    return ShapeRange(min=low, opt=best, max=high)


def _check_profile(shapes: Mapping[str, ShapeRange], signature: ModelSignature) -> None:
    if set(shapes) != set(signature.input_names):
        raise UsageError(
            "A profile does not name the model's inputs.",
            found=", ".join(shapes) or "none",
            expected=", ".join(signature.input_names),
        )
    for tensor in signature.inputs:
        for shape in (shapes[tensor.name].min, shapes[tensor.name].opt, shapes[tensor.name].max):
            if len(shape) != len(tensor.dims) or any(
                isinstance(dim, int) and dim != size for dim, size in zip(tensor.dims, shape, strict=True)
            ):
                raise UsageError(
                    f"A profile does not fit the input '{tensor.name}'.",
                    found=str(shape),
                    expected=tensor.describe(),
                    next_step="keep the sizes that are fixed in the graph, or export with --dynamic",
                )
