"""Shape profiles: which sizes of every open axis an engine serves, and for which it is tuned.

A range is given by input and axis position (``--shape``), or by what an axis is: batch (``--profile``), height and
width (``--size-profile``). Axes of one name are one size, so a range given for one is the range of all of them. An
axis that nobody gave a range is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from linglos_deploy.engines.sizes import SizeProfile
from linglos_deploy.engines.spec import ShapeRange
from linglos_deploy.errors import UsageError
from linglos_deploy.signature import Dim, ModelSignature, TensorSpec, is_unnamed

Range = tuple[int, int, int]
"""Smallest, best and largest size of one axis."""

Profile = Mapping[str, ShapeRange]
"""One optimization profile: the shapes of every input."""

EXAMPLE = "--shape tokens=1x64:1x128:8x512 (smallest, best and largest), or --shape image=1x3x224x224"

DEFAULT_BATCHES: tuple[Range, ...] = ((1, 1, 8),)
"""Of an axis that is named after the batch, where nobody says more."""

_NAMES = {
    "batch": frozenset({"batch", "batch_size", "batchsize", "n", "bs"}),
    "height": frozenset({"height", "h"}),
    "width": frozenset({"width", "w"}),
}
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True, slots=True)
class InputShape:
    """The shapes of one input, axis by axis.

    Attributes:
        name: The input.
        shape: Smallest, best and largest shape.
    """

    name: str
    shape: ShapeRange


def parse_input_shape(text: str) -> InputShape:
    """Parse ``NAME=1x3x320x320`` (that shape only) or ``NAME=MIN:BEST:MAX``, all axes of each.

    >>> parse_input_shape("tokens=1x8:2x16:4x32")
    InputShape(name='tokens', shape=ShapeRange(min=(1, 8), opt=(2, 16), max=(4, 32)))

    Raises:
        UsageError: The text is something else, or a size falls.
    """
    name, _, shapes = text.rpartition("=")
    parts = [part.strip().lower() for part in shapes.split(":")]
    found = [tuple(map(int, part.split("x"))) for part in parts if re.fullmatch(r"\d{1,9}(x\d{1,9})*", part)]
    ranks = {len(shape) for shape in found}
    if not name or len(found) != len(parts) or len(found) not in {1, 3} or len(ranks) != 1:
        raise UsageError(
            "--shape takes an input and its shape, or its smallest, best and largest shape.",
            found=text,
            expected="NAME=SIZExSIZE… or NAME=MIN:BEST:MAX, every axis of each",
            next_step=EXAMPLE,
        )
    return InputShape(name, ShapeRange(found[0], found[len(found) // 2], found[-1]))


def format_input_shape(name: str, shape: ShapeRange) -> str:
    """Write the shapes of an input as :func:`parse_input_shape` reads them.

    >>> format_input_shape("image", ShapeRange((1, 3), (1, 3), (1, 3)))
    'image=1x3'
    """
    shapes = [shape.min] if shape.min == shape.max else [shape.min, shape.opt, shape.max]
    return f"{name}={':'.join('x'.join(map(str, sizes)) for sizes in shapes)}"


def make_profiles(
    signature: ModelSignature,
    *,
    shapes: Sequence[InputShape] = (),
    batches: Sequence[Range] | None = None,
    sizes: SizeProfile | None = None,
    usual_sizes: SizeProfile | None = None,
) -> tuple[dict[str, ShapeRange], ...]:
    """Return the profiles of a graph; none if all its axes are fixed.

    Args:
        signature: The inputs to cover.
        shapes: Shapes by input; the second one of an input belongs to the second profile. A single one, to all.
        batches: A range of batch sizes a profile: of axes named after the batch, else of the first one. ``None`` takes
            1 to 8 for axes that are named after the batch, and for no others.
        sizes: Heights and widths: of axes of that name, else those of an input that looks like an image.
        usual_sizes: Heights and widths of axes of that name where ``sizes`` says nothing.

    Raises:
        UsageError: An open axis has no range, or what was given does not fit the inputs or is used by none of them.
    """
    by_input = {spec.name: [shape.shape for shape in shapes if shape.name == spec.name] for spec in signature.inputs}
    _check_names(shapes, signature)
    for spec in signature.inputs:
        for shape in by_input[spec.name]:
            check_shape(spec, shape)
    counts = {len(found) for found in (*by_input.values(), batches or ()) if len(found) > 1}
    if len(counts) > 1:
        raise UsageError(
            "The numbers of profiles differ.",
            found=", ".join(f"{count}" for count in sorted(counts)),
            expected="as many --shape of every input, and as many --profile, or one for all",
            next_step=EXAMPLE,
        )
    used: set[str] = set()
    profiles = []
    for index in range(counts.pop() if counts else 1):
        given = {name: found[index if len(found) > 1 else 0] for name, found in by_input.items() if found}
        profiles.append(
            _Ranges(
                symbols=_symbols(signature, given),
                batch=_pick(batches, index) or DEFAULT_BATCHES[0],
                any_first_axis=batches is not None,
                sizes=sizes,
                usual_sizes=usual_sizes,
                used=used,
            ).profile(signature, given)
        )
    _check_used(signature, used, batches=batches, sizes=sizes)
    if not any(is_open(dim) for spec in signature.inputs for dim in spec.dims):
        return ()
    return tuple(profiles)


def shapes_to_give(signature: ModelSignature, *, usual_sizes: SizeProfile | None = None) -> tuple[str, ...]:
    """Return what ``--shape`` has to say before profiles can be made, with ``SIZE`` for every number that is missing.

    >>> shapes_to_give(ModelSignature((TensorSpec("x", "float32", ("batch", 3, "a", 8)),), ()))
    ('x=SIZEx3xSIZEx8',)

    Args:
        signature: Of the graph.
        usual_sizes: Heights and widths of axes of that name.
    """
    ranges = _Ranges(symbols={}, batch=DEFAULT_BATCHES[0], usual_sizes=usual_sizes)
    missing = []
    for spec in signature.inputs:
        try:
            ranges.profile(ModelSignature((spec,), ()), {})
        except UsageError:
            missing.append(f"{spec.name}={sizes_to_give(spec)}")
    return tuple(missing)


def sizes_to_give(spec: TensorSpec) -> str:
    """Return a shape as ``--shape`` takes it, with ``SIZE`` for what the graph leaves open."""
    return "x".join("SIZE" if is_open(dim) else str(dim) for dim in spec.dims)


def make_profile(signature: ModelSignature, sizes: Mapping[str, Range]) -> dict[str, ShapeRange]:
    """Return a profile from a range per open axis, by the axis' name.

    >>> image = TensorSpec("image", "float32", ("batch", 3, 64, 64))
    >>> make_profile(ModelSignature((image,), ()), {"batch": (1, 8, 32)})
    {'image': ShapeRange(min=(1, 3, 64, 64), opt=(8, 3, 64, 64), max=(32, 3, 64, 64))}

    Args:
        signature: The inputs to cover.
        sizes: Range of each open axis, by its name in the signature.

    Raises:
        UsageError: An open axis has no range, ``sizes`` names an axis that the inputs do not have, or a range falls.
    """
    known = {dim for spec in signature.inputs for dim in spec.dims if isinstance(dim, str)}
    if unknown := set(sizes) - known:
        raise UsageError(
            f"The model has no dynamic dimension '{min(unknown)}'.",
            expected=", ".join(sorted(known)) or "none: all its sizes are fixed",
        )
    return _Ranges(symbols=dict(sizes), batch=None).profile(signature, {})


def check_shape(spec: TensorSpec, shape: ShapeRange) -> None:
    """Check that shapes fit an input: as many axes, and the fixed sizes.

    Raises:
        UsageError: They do not.
    """
    for sizes in (shape.min, shape.opt, shape.max):
        if len(sizes) != len(spec.dims) or any(
            not is_open(dim) and dim != size for dim, size in zip(spec.dims, sizes, strict=True)
        ):
            raise UsageError(
                f"A profile does not fit the input '{spec.name}'.",
                found="x".join(map(str, sizes)),
                expected=spec.describe(),
                next_step="keep the number of axes and the sizes that are fixed in the graph",
            )


def is_open(dim: Dim) -> bool:
    """Whether an axis may have any size."""
    return isinstance(dim, str)


@dataclass(frozen=True, slots=True)
class _Ranges:
    """Where the ranges of one profile come from."""

    symbols: Mapping[str, Range]
    batch: Range | None
    any_first_axis: bool = False
    sizes: SizeProfile | None = None
    usual_sizes: SizeProfile | None = None
    used: set[str] | None = None

    def profile(self, signature: ModelSignature, given: Profile) -> dict[str, ShapeRange]:
        return {spec.name: given.get(spec.name) or self._shapes(spec) for spec in signature.inputs}

    def _shapes(self, spec: TensorSpec) -> ShapeRange:
        ranges = [self._range(spec, axis) for axis in range(len(spec.dims))]
        low, best, high = (tuple(sizes[position] for sizes in ranges) for position in range(3))
        return ShapeRange(low, best, high)

    def _range(self, spec: TensorSpec, axis: int) -> Range:
        dim = spec.dims[axis]
        if isinstance(dim, int):
            return dim, dim, dim
        if dim in self.symbols:
            return self.symbols[dim]
        named = axis_role(spec, axis)
        role = named or axis_role_by_place(spec, axis)
        found: Range | None = None
        if role == "batch" and (named or self.any_first_axis):
            found = self.batch
        elif role in {"height", "width"}:
            sizes = self.sizes or (self.usual_sizes if named else None)
            found = None if sizes is None else tuple(size[role == "width"] for size in sizes)  # type: ignore[assignment]
        if found is None:
            raise _no_range(spec, axis)
        if self.used is not None and role is not None:
            self.used.add(role)
        return found


def axis_role(spec: TensorSpec, axis: int) -> str | None:
    """Return ``batch``, ``height`` or ``width`` for an axis of such a name, else ``None``."""
    dim = spec.dims[axis]
    if isinstance(dim, str):
        return next((role for role, names in _NAMES.items() if dim.lower() in names), None)
    return None


def axis_role_by_place(spec: TensorSpec, axis: int) -> str | None:
    """Return what an axis is by its place: the first is the batch; an image of 1, 3 or 4 channels has its two sides."""
    if axis == 0:
        return "batch"
    first = image_axis(spec)
    return None if first is None else {first: "height", first + 1: "width"}.get(axis)


def image_axis(spec: TensorSpec) -> int | None:
    """Return the axis of the height of an input that looks like images, channels first or last; else ``None``."""
    if len(spec.dims) == 4:
        return 2 if spec.dims[1] in _CHANNELS else 1 if spec.dims[3] in _CHANNELS else None
    return None


def _pick(batches: Sequence[Range] | None, index: int) -> Range | None:
    return None if not batches else batches[index if len(batches) > 1 else 0]


def _symbols(signature: ModelSignature, given: Profile) -> dict[str, Range]:
    """Return the ranges of named axes that follow from the shapes of some inputs."""
    found: dict[str, Range] = {}
    for spec in signature.inputs:
        if spec.name not in given:
            continue
        shape = given[spec.name]
        for dim, *sizes in zip(spec.dims, shape.min, shape.opt, shape.max, strict=True):
            if isinstance(dim, str):
                span = (sizes[0], sizes[1], sizes[2])
                if found.setdefault(dim, span) != span:
                    raise UsageError(
                        f"The axis '{dim}' has one size, and was given two ranges.",
                        found=f"{found[dim]} and {span}",
                        expected=f"one range wherever an input has '{dim}'",
                    )
    return found


def _check_names(shapes: Sequence[InputShape], signature: ModelSignature) -> None:
    for shape in shapes:
        if shape.name not in signature.input_names:
            raise UsageError(
                f"The model has no input '{shape.name}'.",
                found=f"--shape {format_input_shape(shape.name, shape.shape)}",
                expected=", ".join(signature.input_names),
            )


def _check_used(
    signature: ModelSignature, used: set[str], *, batches: Sequence[Range] | None, sizes: SizeProfile | None
) -> None:
    inputs = "; ".join(spec.describe() for spec in signature.inputs)
    if batches is not None and "batch" not in used:
        raise UsageError(
            "--profile is for a batch that is open, and no input has one that --shape leaves to it.",
            found=inputs,
            expected="an input whose first axis may have any size",
            next_step="leave out --profile",
        )
    if sizes is not None and not {"height", "width"} & used:
        raise UsageError(
            "--size-profile is for heights and widths that are open, and no input has some that --shape leaves to it.",
            found=inputs,
            expected="an input with dynamic resolution",
            next_step="leave out --size-profile",
        )


def _no_range(spec: TensorSpec, axis: int) -> UsageError:
    dim = spec.dims[axis]
    name = "" if is_unnamed(dim) else f" ('{dim}')"
    more = ", or --profile 1,1,8 for batches" if axis_role_by_place(spec, axis) == "batch" else ""
    if image_axis(spec) is not None:
        more = ", or --profile 1,1,8 --size-profile 320,640,960 for batches and sizes of images"
    return UsageError(
        f"Axis {axis}{name} of input '{spec.name}' may have any size, and nobody said which ones the engine serves.",
        found=spec.describe(),
        expected="a range for every open axis",
        next_step=f"--shape '{spec.name}={sizes_to_give(spec)}' with a number for every SIZE, or MIN:BEST:MAX{more}",
    )
