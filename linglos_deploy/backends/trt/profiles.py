"""Give the shape profiles of a build to the vendor's builder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from linglos_deploy.engines.profiles import check_shape, is_open
from linglos_deploy.engines.spec import BuildSpec, ShapeRange
from linglos_deploy.errors import BuildError, UsageError
from linglos_deploy.signature import ModelSignature


def add_profiles(builder: Any, config: Any, spec: BuildSpec, signature: ModelSignature) -> None:
    """Give the profiles of ``spec`` to the builder.

    Raises:
        UsageError: A profile does not fit the inputs, or there is none and an input has an open axis.
        BuildError: The builder refuses a profile.
    """
    dynamic = [tensor for tensor in signature.inputs if any(is_open(dim) for dim in tensor.dims)]
    if not spec.profiles and dynamic:
        raise UsageError(
            f"Input '{dynamic[0].name}' has dynamic dimensions; the engine needs a profile.",
            found=dynamic[0].describe(),
            next_step="--profile 1,8,32 (smallest, best and largest batch), or --shape for any axis",
        )
    for shapes in spec.profiles:
        _check_profile(shapes, signature)
        profile = builder.create_optimization_profile()
        for name, shape in shapes.items():
            profile.set_shape(name, shape.min, shape.opt, shape.max)
        if config.add_optimization_profile(profile) < 0:
            raise BuildError("The builder refuses an optimization profile.", found=str(dict(shapes)))


def _check_profile(shapes: Mapping[str, ShapeRange], signature: ModelSignature) -> None:
    if set(shapes) != set(signature.input_names):
        raise UsageError(
            "A profile does not name the model's inputs.",
            found=", ".join(shapes) or "none",
            expected=", ".join(signature.input_names),
        )
    for tensor in signature.inputs:
        check_shape(tensor, shapes[tensor.name])
