"""How latency grows with pixels and with the batch: the exponent of a power, with its interval over the sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby

from linglos_deploy.reports.profile import FEWEST_SIZES, Against, ProfileRow, Scaling


def scalings(rows: Sequence[ProfileRow], *, confidence: float) -> tuple[Scaling, ...]:
    """Return how the latency of each candidate grows with what was swept, all else the same.

    Args:
        rows: Of one measurement.
        confidence: Of the intervals.
    """
    timed = [row for row in rows if row.latency is not None]
    return (
        *_along(timed, Against.PIXELS, confidence, size=_pixels, rest=lambda row: (row.label, row.threads, row.batch)),
        *_along(
            timed,
            Against.BATCH,
            confidence,
            size=lambda row: row.batch,
            rest=lambda row: (row.label, row.threads, row.image_size or (0, 0)),
        ),
    )


def fit_power(sizes: Sequence[float], times: Sequence[float], confidence: float) -> tuple[float, float, float] | None:
    """Return the exponent of the power that fits best, and its interval; ``None`` from fewer than four sizes.

    It is the slope of a line through the logarithms, by least squares, with Student's interval (``scipy.stats``). What
    counts is the number of sizes: that the growth is no power after all widens the interval as noise does.

    Args:
        sizes: Such as pixels; all of them different.
        times: Latency at each.
        confidence: Of the interval.
    """
    if len(sizes) < FEWEST_SIZES:
        return None
    from scipy import stats

    line = stats.linregress([math.log(size) for size in sizes], [math.log(time) for time in times])
    reach = float(stats.t.ppf((1 + confidence) / 2, len(sizes) - 2)) * float(line.stderr)
    return float(line.slope), float(line.slope) - reach, float(line.slope) + reach


def _along(
    rows: Sequence[ProfileRow],
    against: Against,
    confidence: float,
    *,
    size: Callable[[ProfileRow], int],
    rest: Callable[[ProfileRow], tuple[object, ...]],
) -> list[Scaling]:
    found = []
    for _, group in groupby(sorted(rows, key=rest), key=rest):
        swept = {size(row): row for row in group if size(row)}
        if len(swept) < 2:
            continue
        times = [row.latency.p50 for row in swept.values() if row.latency is not None]
        fitted = fit_power(list(swept), times, confidence)
        exponent, low, high = fitted if fitted is not None else (None, None, None)
        row = next(iter(swept.values()))
        found.append(
            Scaling(
                label=row.label,
                against=against,
                threads=row.threads,
                batch=None if against is Against.BATCH else row.batch,
                image_size=None if against is Against.PIXELS else row.image_size,
                points=len(swept),
                exponent=exponent,
                low=low,
                high=high,
                confidence=confidence,
            )
        )
    return found


def _pixels(row: ProfileRow) -> int:
    return math.prod(row.image_size) if row.image_size is not None else 0
