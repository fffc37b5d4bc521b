"""What a user says of how images become a model's input, for models that do not say it themselves."""

from __future__ import annotations

from dataclasses import dataclass, fields

from linglos_deploy.errors import UsageError
from linglos_deploy.images.layout import Layout
from linglos_deploy.images.preprocessing import Color, Interpolation


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

    @property
    def given(self) -> dict[str, object]:
        """What was said, by field."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


NOTHING_SAID = PreprocessOptions()


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
