"""What all charts share: how wide they are, text as SVG takes it, axes with round numbers."""

from __future__ import annotations

import html
import math

from linglos_deploy.reports.document import printable

WIDTH = 560
"""Units of every drawing's width; its height is its own."""
CHARACTER = 7.0
"""Width of a character of a label, about."""
MAX_LABEL = 58
"""Characters of the longest label that is shown whole, where it has a line of its own."""


def escape(text: str) -> str:
    """Return text as it may stand in HTML and SVG, attributes included."""
    return html.escape(printable(text))


def nice_range(low: float, high: float) -> tuple[float, float]:
    """Return bounds whose four steps are round numbers."""
    raw = max(high - low, 1e-9, 1e-9 * max(abs(low), abs(high))) / 4  # steps that floats can tell apart
    unit = 10.0 ** math.floor(math.log10(raw))
    for factor in (1, 2, 2.5, 5, 10, 20, 25, 50):
        step = factor * unit
        bottom = math.floor(low / step) * step
        if bottom + 4 * step >= high:
            return bottom, bottom + 4 * step
    raise AssertionError("fifty times the unit always suffices")


def shorten(label: str, length: int) -> str:
    """Return a label, shortened in the middle if it has more characters than this."""
    return label if len(label) <= length else f"{label[: length // 2 - 1]}…{label[-length // 2 :]}"
