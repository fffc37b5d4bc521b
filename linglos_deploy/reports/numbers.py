"""Numbers as people read them."""

from __future__ import annotations

import math

_TINY = 1e-10
"""Distance from 1 from which nines are no longer counted one by one."""
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def significant(value: float, digits: int = 3) -> str:
    """Return ``value`` with at least ``digits`` significant digits, without an exponent where that is readable.

    >>> significant(0.012345), significant(12345.6), significant(0.00000123), significant(1.0)
    ('0.0123', '12346', '1.23e-06', '1.00')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude < -4:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - magnitude)}f}"


def file_size(count: float) -> str:
    """Return bytes in binary units.

    >>> file_size(512), file_size(3 * 2**20)
    ('512 B', '3.0 MiB')
    """
    value, unit = float(count), _UNITS[0]
    for name in _UNITS:
        unit = name
        if value < 1024 or name == _UNITS[-1]:
            break
        value /= 1024
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def similarity(cosine: float) -> str:
    """Return a cosine with as many nines as it has.

    >>> similarity(0.99874), similarity(0.99999912), similarity(1 - 2e-14), similarity(1.0)
    ('0.9987', '0.99999912', '1 - 2e-14', '1')
    """
    gap = 1 - cosine
    if 0 < gap < _TINY:
        return f"1 - {gap:.0e}"
    if gap <= 0:
        return f"{cosine:.4g}"
    return f"{cosine:.{max(4, 1 - math.floor(math.log10(gap)))}f}"
