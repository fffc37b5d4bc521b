"""What a user says of how images become a model's input, for models that do not say it themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from linglos_deploy.errors import UsageError
from linglos_deploy.images.layout import Layout
from linglos_deploy.images.preprocessing import Color, Fit, Interpolation, PreprocessSpec


@dataclass(frozen=True, slots=True)
class PreprocessOptions:
    """Fields of :class:`~.preprocessing.PreprocessSpec`, ``None`` where nothing was said.

    A single number for ``mean`` or ``std`` is meant for every channel.
    """

    input_size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    color: Color | None = None
    layout: Layout | None = None
    scale: float | None = None
    crop_pct: float | None = None
    interpolation: Interpolation | None = None
    fit: Fit | None = None

    @property
    def given(self) -> dict[str, object]:
        """What was said, by field."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def applied_to(self, stated: PreprocessSpec) -> PreprocessSpec:
        """Return a preprocessing with what was said in place of what it says.

        Raises:
            UsageError: Something said does not fit it.
        """
        said: dict[str, Any] = dict(self.given)
        channels = (self.color or stated.color).channels
        for name in ("mean", "std"):
            if name in said:
                said[name] = each_channel(said[name], channels, option=f"--{name}")
        return replace(stated, **said)


NOTHING_SAID = PreprocessOptions()


def each_channel(numbers: Sequence[float], channels: int, *, option: str) -> tuple[float, ...]:
    """Return a number for each channel, where one may stand for all.

    Raises:
        UsageError: There are neither one nor as many as channels.
    """
    if len(numbers) not in (1, channels):
        raise UsageError(
            f"{option} has another number of values than the model has channels.",
            found=f"{len(numbers)} values",
            expected=f"1, or {channels}",
        )
    return tuple(numbers) * (channels if len(numbers) == 1 else 1)


def parse_numbers(text: str | None, *, option: str) -> tuple[float, ...] | None:
    """Read numbers, one or one for each channel, as they are written on a command line.

    >>> parse_numbers("0.485,0.456,0.406", option="--mean")
    (0.485, 0.456, 0.406)

    Raises:
        UsageError: One is no number.
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"{option} takes numbers.",
            found=text,
            expected="one number, or one for each channel, with commas between them",
            next_step=f"{option} 0.485,0.456,0.406",
        ) from error
