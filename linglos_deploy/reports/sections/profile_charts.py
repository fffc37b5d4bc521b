"""How latency is drawn: medians, how runs spread, time by round, what scales with what, and the slowest layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.reports.document import (
    Bar,
    BarChart,
    Chart,
    Curve,
    CurveChart,
    Point,
    Spread,
    SpreadChart,
    Tone,
)
from linglos_deploy.reports.numbers import significant
from linglos_deploy.reports.profile import LayerProfile, ProfileRow

if TYPE_CHECKING:
    from numpy.typing import NDArray

LAYERS_DRAWN = 12

_STEPS = (12, 60)
"""Fewest and most steps of a chart of spreads."""
_WIDEST = (-0.5, 1.0)
"""How far from the median, relative, a chart of spreads goes at most."""


def latency_charts(measured: Sequence[ProfileRow], *, limit: float | None) -> tuple[Chart, ...]:
    """Return the charts of all measured rows.

    Args:
        measured: Rows that were measured.
        limit: The slowest acceptable median in milliseconds, ``None`` without a budget.
    """
    rows = sorted((row for row in measured if row.latency is not None), key=_group_of)
    groups = [list(group) for _, group in groupby(rows, key=_group_of)]
    charts: list[Chart | None] = [_medians(group, limit) for group in groups]
    charts += [_spreads(group) for group in groups]
    charts += _against(
        rows, x=lambda row: row.batch, name=lambda row: str(row.batch), what="batch", unit="images a run"
    )
    charts += _against(rows, x=_pixels, name=_side, what="pixels", unit="pixels")
    charts += [_rounds(group) for group in groups]
    return tuple(chart for chart in charts if chart is not None)


def layer_charts(measured: Sequence[ProfileRow]) -> tuple[Chart, ...]:
    """Return a chart of the slowest layers of each row that has any."""
    return tuple(_slowest_layers(row, row.layers) for row in measured if row.layers is not None and row.layers.layers)


def _group_of(row: ProfileRow) -> tuple[int, tuple[int, int], int]:
    return row.batch, row.image_size or (0, 0), row.threads


def _what(row: ProfileRow) -> str:
    return setting(batch=row.batch, image_size=row.image_size, threads=row.threads)


def setting(*, batch: int | None, image_size: tuple[int, int] | None, threads: int) -> str:
    """Return at what something was measured; nothing of threads where each backend chose.

    >>> setting(batch=8, image_size=(160, 224), threads=1)
    'batch 8, 160 × 224, 1 thread'
    """
    parts = [f"batch {batch}"] if batch is not None else []
    parts += [size_text(image_size)] if image_size is not None else []
    parts += [f"{threads} thread{'s' if threads > 1 else ''}"] if threads else []
    return ", ".join(parts)


def size_text(size: tuple[int, int]) -> str:
    """Return a height and width as people write them."""
    return f"{size[0]} × {size[1]}"


def _medians(group: Sequence[ProfileRow], limit: float | None) -> BarChart:
    bars = tuple(
        Bar(
            label=row.label,
            value=row.latency.p50,
            text=significant(row.latency.p50),
            reach=row.latency.p90 if row.latency.p90 is not None else row.latency.high,
            tone=Tone.BAD if limit is not None and row.latency.p50 > limit else Tone.NEUTRAL,
        )
        for row in group
        if row.latency is not None
    )
    return BarChart(
        title=f"Latency at {_what(group[0])} (ms)",
        caption="Bar and number: median. Thin line: to p90, or to the end of the median's interval."
        + (" Vertical line: the budget." if limit is not None else ""),
        bars=bars,
        limit=limit,
    )


def _spreads(group: Sequence[ProfileRow]) -> SpreadChart | None:
    """Draw where the runs of each row lie, on one axis relative to the row's own median."""
    values = {row.label: _relative_runs(row) for row in group if row.samples_ms and row.latency is not None}
    if not values:
        return None
    steps = int(np.clip(2 * math.sqrt(min(runs.size for runs in values.values())), *_STEPS))
    start = max(_WIDEST[0], min(float(np.percentile(runs, 0.5)) for runs in values.values()))
    end = min(_WIDEST[1], max(float(np.percentile(runs, 99)) for runs in values.values()))
    if end - start < 1e-9:
        return None
    spreads = []
    for row in group:
        if row.label not in values or row.latency is None:
            continue
        runs = values[row.label]
        inside = runs[(runs >= start) & (runs <= end)]
        counts, _ = np.histogram(inside, bins=steps, range=(start, end))
        first, third = np.percentile(runs, (25, 75))
        spreads.append(
            Spread(
                label=row.label,
                text=f"{significant(row.latency.p50)} ms",
                counts=tuple(float(count) for count in counts),
                quartiles=(float(first), float(third)),
                beyond=int(runs.size - inside.size),
            )
        )
    beyond = ", ".join(f"{spread.beyond} of {spread.label}" for spread in spreads if spread.beyond)
    return SpreadChart(
        title=f"How runs spread around their median, {_what(group[0])}",
        caption="Height: how many runs. Line below: the middle half of them."
        + (f" Runs that lie beyond the axis: {beyond}." if beyond else ""),
        start=start,
        end=end,
        spreads=tuple(spreads),
    )


def _relative_runs(row: ProfileRow) -> NDArray[np.float64]:
    runs = np.array([run for rounds in row.samples_ms for samples in rounds for run in samples], dtype=np.float64)
    return runs / float(np.median(runs)) - 1


def _rounds(group: Sequence[ProfileRow]) -> CurveChart | None:
    """Draw the median of every round in the order of time; the line stops where a process ends."""
    curves = []
    for row in group:
        medians = [[float(np.median(samples)) for samples in rounds if samples] for rounds in row.samples_ms]
        whole = [median for rounds in medians for median in rounds]
        if not whole:
            continue
        middle, place, parts = float(np.median(whole)), 0, []
        for rounds in medians:
            parts.append(tuple(Point(place + index, value / middle - 1) for index, value in enumerate(rounds, 1)))
            place += len(rounds)
        curves.append(Curve(row.label, tuple(part for part in parts if part)))
    if not curves:
        return None
    last = max(part[-1].x for curve in curves for part in curve.parts)
    longest = max(curves, key=lambda curve: len(curve.parts))
    return CurveChart(
        title=f"Time by round, {_what(group[0])}",
        caption="Median of each round, relative to the middle one of its candidate. A line is one process; what all "
        "show at once happened to the machine.",
        across=f"process of the candidate, in the order of time; {last:.0f} rounds",
        ticks=tuple((part[0].x, str(number)) for number, part in enumerate(longest.parts, 1)),
        curves=tuple(curves),
        percent=True,
    )


def _pixels(row: ProfileRow) -> int:
    return math.prod(row.image_size) if row.image_size is not None else 0


def _side(row: ProfileRow) -> str:
    size = row.image_size or (0, 0)
    return f"{size[0]}²" if size[0] == size[1] else size_text(size)


def _against(
    rows: Sequence[ProfileRow],
    *,
    x: Callable[[ProfileRow], int],
    name: Callable[[ProfileRow], str],
    what: str,
    unit: str,
) -> list[CurveChart | None]:
    """Draw latency against one size, for each setting of everything else."""

    def rest(row: ProfileRow) -> tuple[int, tuple[int, int], int]:
        batch, size, threads = _group_of(row)
        return (0, size, threads) if what == "batch" else (batch, (0, 0), threads)

    charts = []
    for _, found in groupby(sorted(rows, key=rest), key=rest):
        group = [row for row in found if x(row) > 0]
        if group:
            first = group[0]
            kept = setting(
                batch=None if what == "batch" else first.batch,
                image_size=None if what == "pixels" else first.image_size,
                threads=first.threads,
            )
            charts.append(_scaling(group, x=x, name=name, title=f"Latency against {what}, {kept} (ms)", across=unit))
    return charts


def _scaling(
    rows: Sequence[ProfileRow],
    *,
    x: Callable[[ProfileRow], int],
    name: Callable[[ProfileRow], str],
    title: str,
    across: str,
) -> CurveChart | None:
    ticks = {x(row): name(row) for row in rows}
    if len(ticks) < 2:
        return None
    curves = []
    for label in dict.fromkeys(row.label for row in rows):
        points = sorted(
            (
                Point(x(row), row.latency.p50, row.latency.low, row.latency.high)
                for row in rows
                if row.label == label and row.latency is not None
            ),
            key=lambda point: point.x,
        )
        curves.append(Curve(label, (tuple(points),)))
    return CurveChart(
        title=title,
        caption="Median; vertical line: its interval. Both axes are logarithmic: a straight line is a power, and one "
        "that rises as fast as it goes to the right takes twice as long for twice as much.",
        across=across,
        ticks=tuple((float(value), tick) for value, tick in sorted(ticks.items())),
        curves=tuple(curves),
        logarithmic=True,
    )


def _slowest_layers(row: ProfileRow, profile: LayerProfile) -> BarChart:
    slowest = sorted(profile.layers, key=lambda layer: -layer.milliseconds)[:LAYERS_DRAWN]
    shown = sum(layer.share for layer in slowest)
    return BarChart(
        title=f"Slowest layers of {row.label}, {_what(row)} (ms)",
        caption=f"{len(slowest)} of {len(profile.layers)} layers, {shown:.0%} of their time together.",
        bars=tuple(
            Bar(layer.layer, layer.milliseconds, f"{significant(layer.milliseconds)}, {layer.share:.1%}")
            for layer in slowest
        ),
    )
