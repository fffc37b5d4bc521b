"""How much worse the new one may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from linglos_deploy.errors import UsageError


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How much worse the new one may be, where the comparison shall not decide itself.

    Attributes:
        max_drop: Largest loss per measure of quality, in its unit: ``{"sqnr_db": 1.5, "top1_agreement": 0.01}``.
        max_growth: Largest growth of a file, as a share: 0.05 for 5 %; ``math.inf`` asks for nothing.
        max_regression: Largest loss of speed, as a share.
    """

    max_drop: Mapping[str, float] = field(default_factory=dict)
    max_growth: float | None = None
    max_regression: float | None = None

    def __post_init__(self) -> None:
        numbers = {
            **{f"max_drop {name}": value for name, value in self.max_drop.items()},
            "max_growth": self.max_growth,
            "max_regression": self.max_regression,
        }
        for name, value in numbers.items():
            if value is not None and not value >= 0:
                raise UsageError(f"{name} is no tolerance.", found=str(value), expected="a number from 0")

    @property
    def given(self) -> frozenset[str]:
        """Names of those that were given."""
        names = {"max_drop": bool(self.max_drop)}
        names |= {name: getattr(self, name) is not None for name in ("max_growth", "max_regression")}
        return frozenset(name for name, is_given in names.items() if is_given)


def parse_share(text: str | None, *, option: str) -> float | None:
    """Parse a share: ``5%`` or ``0.05``; ``off`` is infinitely much.

    Raises:
        UsageError: The text is something else.
    """
    if text is None:
        return None
    written = text.strip()
    if written.lower() == "off":
        return math.inf
    number = written.removesuffix("%")
    try:
        share = float(number) / (100 if number != written else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share < math.inf:
        raise UsageError(f"{option} takes a share.", found=text, expected="5%, 0.05 or off", next_step=f"{option} 5%")
    return share


def parse_drop(text: str) -> tuple[str, float]:
    """Parse ``--max-drop``: ``sqnr_db=1.5``.

    Raises:
        UsageError: The text is something else.
    """
    name, _, value = text.partition("=")
    try:
        return name.strip(), math.inf if value.strip().lower() == "off" else float(value)
    except ValueError as error:
        raise UsageError(
            f"'{text}' is no tolerance.",
            found=text,
            expected="NAME=NUMBER or NAME=off",
            next_step="--max-drop sqnr_db=1.5",
        ) from error
