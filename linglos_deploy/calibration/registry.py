"""Threshold methods by name: those of this package, and those that other distributions bring. Imports none of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from linglos_deploy.calibration import methods
from linglos_deploy.discovery import Catalogue, suggest
from linglos_deploy.errors import UsageError

if TYPE_CHECKING:
    from linglos_deploy.calibration.statistics import TensorStatistics

ENTRY_POINTS = "linglos_deploy.threshold_methods"
"""Entry-point group through which other distributions add methods: a name, and ``module:function``."""

_METHODS = Catalogue(methods, ENTRY_POINTS)

LEVELS = 127
"""Steps on each side of zero of a symmetric INT8 tensor."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a method is asked for.

    Attributes:
        levels: Steps on each side of zero.
        percentile: Share of the magnitudes, in percent, that need not be clipped; only ``percentile`` minds it.
    """

    levels: int = LEVELS
    percentile: float = 99.99

    def __post_init__(self) -> None:
        if not 0 < self.percentile <= 100:
            raise UsageError("The percentile must be in (0, 100].", found=str(self.percentile), expected="99.99")
        if self.levels < 1:
            raise UsageError("Quantization needs a level.", found=str(self.levels), expected="127 for INT8")


class ThresholdMethod(Protocol):
    """Tells from statistics where to clip a tensor."""

    def __call__(self, stats: TensorStatistics, settings: Settings) -> float:
        """Return a bound above 0.

        Args:
            stats: Of a tensor with finite values that are not all zero.
            settings: Steps, and the percentile.
        """
        ...


def builtin_methods() -> tuple[str, ...]:
    """Return the names of this package's methods.

    >>> {"absmax", "mse"} <= set(builtin_methods())
    True
    """
    return _METHODS.own()


def threshold_methods() -> tuple[str, ...]:
    """Return the names of all methods."""
    return _METHODS.names()


def check_method(name: str) -> str:
    """Return ``name`` if there is such a method.

    Raises:
        UsageError: There is none.
    """
    if name in _METHODS:
        return name
    raise UsageError(
        f"There is no threshold method '{name}'.",
        found=name,
        expected=", ".join(threshold_methods()),
        next_step=suggest(name, threshold_methods(), otherwise="--method weighted"),
    )


def load_method(name: str) -> ThresholdMethod:
    """Import a method.

    Raises:
        UsageError: There is none of this name.
    """
    check_method(name)
    method: ThresholdMethod = _METHODS.load(name)
    return method
