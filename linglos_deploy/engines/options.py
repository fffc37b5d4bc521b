"""How engines are built, before the graph is known; and what that means for one graph."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from linglos_deploy.engines.containers import find_containers
from linglos_deploy.engines.dla import DLA
from linglos_deploy.engines.profiles import InputShape, Profile, Range, image_axis, is_open, make_profiles
from linglos_deploy.engines.sizes import Size, SizeProfile, around, check_fit, check_order
from linglos_deploy.engines.spec import BuildSpec
from linglos_deploy.engines.targets import apply_preset, find_preset
from linglos_deploy.errors import UsageError
from linglos_deploy.signature import ModelSignature

DEFAULT_DIVISOR = 32
"""What the sizes of a graph that was made for images, and does not say more, are rounded to."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How engines are built, before the graph is known.

    Attributes:
        batch_profiles: One optimization profile each: smallest, best and largest batch. ``None`` serves 1 to 8, where
            an axis is named after the batch.
        size_profile: Smallest, best and largest height and width, for graphs with dynamic resolution; ``None`` serves
            the size that the graph was made for and anything from half to twice of it.
        shapes: Shapes of inputs, axis by axis; they go before the two above.
        settings: Everything else; its profiles are replaced by those above.
        target: A kind of hardware, such as ``jetson-orin``, whose settings fill in what ``settings`` leaves open.
        cache: Whether an engine that was built before from the same graph and settings is taken.
        containers: Other runtimes' containers that are made of the engines, by name.
    """

    batch_profiles: tuple[Range, ...] | None = None
    size_profile: SizeProfile | None = None
    shapes: tuple[InputShape, ...] = ()
    settings: BuildSpec = field(default_factory=lambda: BuildSpec(profiles=()))
    target: str | None = None
    cache: bool = True
    containers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        find_containers(self.containers)
        if self.target not in {None, DLA}:  # the graph is part of the answer about a DLA core
            find_preset(str(self.target))
        if self.size_profile is not None:
            check_order(self.size_profile)

    def spec(
        self, signature: ModelSignature, *, backend: str, nominal_size: Size | None, divisor: int | None = None
    ) -> BuildSpec:
        """Return the build specification for one graph on one backend.

        Args:
            signature: Of the graph.
            backend: What compiles it.
            nominal_size: Height and width that the model was made for; ``None`` if the graph does not say.
            divisor: Heights and widths are multiples of this; ``None`` if the graph does not say.

        Raises:
            UsageError: A profile does not fit the graph, an open axis has none, or the backend does not support the
                target.
        """
        profiles = self._profiles(signature, nominal_size, divisor)
        spec = replace(self.settings, profiles=profiles)
        return spec if self.target is None else apply_preset(find_preset(self.target), spec, backend=backend)

    def _profiles(
        self, signature: ModelSignature, nominal_size: Size | None, divisor: int | None
    ) -> tuple[Profile, ...]:
        if self.size_profile is not None:
            check_fit(self.size_profile, dynamic=_has_open_sides(signature), divisor=divisor or 1)
        profiles = make_profiles(
            signature,
            shapes=self.shapes,
            batches=self.batch_profiles,
            sizes=self.size_profile,
            usual_sizes=None if nominal_size is None else around(nominal_size, divisor or DEFAULT_DIVISOR),
        )
        if divisor is not None and self.shapes:
            _check_sides(profiles, signature, divisor)
        return profiles


def parse_batch_profile(text: str) -> Range:
    """Parse ``8`` (that batch only) or ``1,8,32`` (smallest, best and largest).

    Raises:
        UsageError: The text is something else.
    """
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        numbers *= 3
    if len(numbers) != 3 or numbers[0] < 1 or numbers != sorted(numbers):
        raise UsageError(
            "A profile is a batch size, or the smallest, best and largest one.",
            found=text,
            expected="one whole number from 1, or three that do not fall",
            next_step="--profile 1,8,32",
        )
    return numbers[0], numbers[1], numbers[2]


def _has_open_sides(signature: ModelSignature) -> bool:
    names = {dim for spec in signature.inputs for dim in spec.dims}
    if {"height", "width"} <= names:
        return True
    sides = [(spec, image_axis(spec)) for spec in signature.inputs]
    return any(axis is not None and is_open(spec.dims[axis]) and is_open(spec.dims[axis + 1]) for spec, axis in sides)


def _check_sides(profiles: tuple[Profile, ...], signature: ModelSignature, divisor: int) -> None:
    """Check the heights and widths of shapes that were given axis by axis."""
    for spec in signature.inputs:
        axis = image_axis(spec)
        if axis is None:
            continue
        for profile in profiles:
            shape = profile[spec.name]
            smallest, best, largest = ((sizes[axis], sizes[axis + 1]) for sizes in (shape.min, shape.opt, shape.max))
            check_fit((smallest, best, largest), dynamic=True, divisor=divisor)
