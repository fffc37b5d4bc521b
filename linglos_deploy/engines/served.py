"""Which shapes a built engine serves: its signature narrowed to its profiles, and the shapes it is tuned for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from linglos_deploy.engines.profiles import axis_role, axis_role_by_place
from linglos_deploy.engines.spec import ShapeRange
from linglos_deploy.signature import ModelSignature, TensorSpec


def served_signature(signature: ModelSignature, profiles: Sequence[Mapping[str, ShapeRange]]) -> ModelSignature:
    """Return a signature in which every open axis that has one size in all profiles is fixed to it.

    >>> image = TensorSpec("image", "float32", ("batch", 3, "height"))
    >>> profile = {"image": ShapeRange((1, 3, 32), (1, 3, 32), (8, 3, 32))}
    >>> served_signature(ModelSignature((image,), ()), [profile]).inputs[0].shape
    ('batch', 3, 32)
    """
    return replace(signature, inputs=tuple(_narrow(spec, profiles) for spec in signature.inputs))


def tuned_shapes(
    signature: ModelSignature,
    profiles: Sequence[Mapping[str, ShapeRange]],
    *,
    batch: int,
    image_size: tuple[int, int] | None,
) -> dict[str, tuple[int, ...]]:
    """Return the shapes that an engine is tuned for, with a batch and an image size of one's own.

    Of several profiles the first one is taken that serves them; if none does, the first one, and running will say why.

    Args:
        signature: The engine's inputs.
        profiles: Its profiles.
        batch: Number of images.
        image_size: Height and width; ``None`` for those that it is tuned for.
    """
    wanted = {"batch": batch} | ({} if image_size is None else {"height": image_size[0], "width": image_size[1]})
    found = [{spec.name: _tuned(spec, profile[spec.name], wanted) for spec in signature.inputs} for profile in profiles]
    fitting = [
        shapes
        for shapes, profile in zip(found, profiles, strict=True)
        if all(
            low <= size <= high
            for name, shape in shapes.items()
            for low, size, high in zip(profile[name].min, shape, profile[name].max, strict=True)
        )
    ]
    return (fitting or found or [{}])[0]


def _narrow(spec: TensorSpec, profiles: Sequence[Mapping[str, ShapeRange]]) -> TensorSpec:
    ranges = [profile[spec.name] for profile in profiles if spec.name in profile]
    if not ranges:
        return spec
    bounds = [*(shape.min for shape in ranges), *(shape.max for shape in ranges)]
    dims = [sizes[0] if len(set(sizes)) == 1 else dim for dim, *sizes in zip(spec.dims, *bounds, strict=True)]
    return replace(spec, shape=tuple(dims))


def _tuned(spec: TensorSpec, shape: ShapeRange, wanted: Mapping[str, int]) -> tuple[int, ...]:
    sizes = []
    for axis, (dim, best) in enumerate(zip(spec.dims, shape.opt, strict=True)):
        role = axis_role(spec, axis) or (axis_role_by_place(spec, axis) if isinstance(dim, str) else None)
        sizes.append(wanted.get(role or "", best))
    return tuple(sizes)
