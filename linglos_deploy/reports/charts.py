"""Small charts as inline SVG. Colours come from the page's style sheet; every number is in a table too."""

from __future__ import annotations

import math
from collections.abc import Sequence

from linglos_deploy.reports.curves import draw_curves, draw_spreads, legend
from linglos_deploy.reports.document import (
    Bar,
    BarChart,
    Chart,
    CurveChart,
    ErrorGrowth,
    Histogram,
    LineChart,
    SpreadChart,
    Tone,
)
from linglos_deploy.reports.drawing import CHARACTER, MAX_LABEL, WIDTH, escape, nice_range, shorten
from linglos_deploy.reports.numbers import significant

_ROW = 38
_LABEL = 18
_BAR = 14
_LINE_HEIGHT = 170
_LEFT_OF_LINE = 38
_COUNTS_HEIGHT = 100
_GROWTH_HEIGHT = 240
_NAME = 34
_LEAST_ERROR, _LARGEST_ERROR = 1e-7, 10.0
"""Relative errors between which a picture tells them apart: what float32 holds, and ten times the signal."""


def draw(chart: Chart, *, name: str) -> str:
    """Return a chart as a ``<figure>``.

    Args:
        chart: What to draw.
        name: Unique on the page; connects the drawing with its title for screen readers.
    """
    key = ""
    if isinstance(chart, ErrorGrowth):
        drawing = _growth(chart)
    elif isinstance(chart, SpreadChart):
        drawing = draw_spreads(chart)
    elif isinstance(chart, CurveChart):
        drawing, key = draw_curves(chart), legend(chart)
    elif isinstance(chart, Histogram):
        drawing = _histogram(chart)
    else:
        drawing = _bars(chart) if isinstance(chart, BarChart) else _line(chart)
    if not drawing:
        return ""
    drawing = drawing.replace("<svg ", f'<svg role="img" aria-labelledby="{name}" ', 1)
    return (
        f'<figure><strong id="{name}">{escape(chart.title)}</strong>{key}<div class="drawing">{drawing}</div>'
        f"<figcaption>{escape(chart.caption)}</figcaption></figure>"
    )


def _bars(chart: BarChart) -> str:
    """Draw bars under their labels: names of files are long, and a phone is narrow."""
    if not chart.bars:
        return ""
    top = 18 if chart.limit is not None else 4
    height = top + _ROW * len(chart.bars)
    right = CHARACTER * max(len(bar.text) for bar in chart.bars) + 20
    largest = max([bar.reach or bar.value for bar in chart.bars] + [bar.value for bar in chart.bars])
    if chart.limit is not None and chart.limit <= 3 * largest:
        largest = max(largest, chart.limit)
    scale = (WIDTH - right) / (largest or 1.0)
    parts = [_bar(bar, top=top + _ROW * index, scale=scale) for index, bar in enumerate(chart.bars)]
    if chart.limit is not None and chart.limit <= largest:
        x = chart.limit * scale
        parts.append(f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{height}"/>')
        parts.append(
            f'<text class="limit-text" x="{x:.1f}" y="11" text-anchor="middle">{significant(chart.limit)}</text>'
        )
    return f'<svg viewBox="0 0 {WIDTH} {height}">{"".join(parts)}</svg>'


def _bar(bar: Bar, *, top: float, scale: float) -> str:
    end = length = max(1.0, bar.value * scale)
    y = top + _LABEL
    middle = y + _BAR / 2
    parts = [
        f"<g><title>{escape(f'{bar.label}: {bar.text}')}</title>",
        f'<text class="label" x="0" y="{y - 4:.1f}">{escape(shorten(bar.label, MAX_LABEL))}</text>',
        f'<rect class="bar tone-{bar.tone}" x="0" y="{y:.1f}" width="{length:.1f}" height="{_BAR}" rx="2"/>',
    ]
    if bar.reach is not None and bar.reach > bar.value:
        end = bar.reach * scale
        parts.append(f'<line class="reach" x1="{length:.1f}" x2="{end:.1f}" y1="{middle:.1f}" y2="{middle:.1f}"/>')
        parts.append(f'<line class="reach" x1="{end:.1f}" x2="{end:.1f}" y1="{middle - 4:.1f}" y2="{middle + 4:.1f}"/>')
    parts.append(f'<text x="{end + 7:.1f}" y="{middle + 4:.1f}">{escape(bar.text)}</text></g>')
    return "".join(parts)


def _line(chart: LineChart) -> str:
    values = chart.values
    if len(values) < 2:
        return ""
    shown = [*values] if chart.limit is None else [*values, chart.limit]
    low, high = nice_range(min(shown), max(shown))
    width, height = WIDTH - _LEFT_OF_LINE - 10, _LINE_HEIGHT - 16

    def place(index: float, value: float) -> tuple[float, float]:
        return _LEFT_OF_LINE + width * index / (len(values) - 1), 8 + height * (high - value) / (high - low)

    parts = []
    for step in range(5):
        value = low + (high - low) * step / 4
        _, y = place(0, value)
        parts.append(f'<line class="grid" x1="{_LEFT_OF_LINE}" x2="{WIDTH - 10}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="axis" x="{_LEFT_OF_LINE - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    points = [place(index, value) for index, value in enumerate(values)]
    parts.append(f'<polyline class="line" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
    if chart.limit is not None:
        _, y = place(0, chart.limit)
        parts.append(f'<line class="limit" x1="{_LEFT_OF_LINE}" x2="{WIDTH - 10}" y1="{y:.1f}" y2="{y:.1f}"/>')
    for label, value, (x, y) in zip(chart.labels, values, points, strict=True):
        tone = Tone.BAD if chart.limit is not None and value < chart.limit else Tone.NEUTRAL
        parts.append(
            f'<circle class="point tone-{tone}" cx="{x:.1f}" cy="{y:.1f}" r="2.4">'
            f"<title>{escape(f'{label}: {significant(value)}')}</title></circle>"
        )
    return f'<svg viewBox="0 0 {WIDTH} {_LINE_HEIGHT}">{"".join(parts)}</svg>'


def _growth(chart: ErrorGrowth) -> str:
    """Draw errors as an area over the parts of the network, decades up, with the worst or the marked tensor named."""
    if len(chart.errors) < 2:
        return ""
    errors = [min(max(error, _LEAST_ERROR), _LARGEST_ERROR) for error in chart.errors]
    limit = None if chart.limit is None else min(max(chart.limit, _LEAST_ERROR), _LARGEST_ERROR)
    shown = errors if limit is None else [*errors, limit]
    low, high = math.floor(math.log10(min(shown))), math.ceil(math.log10(1.2 * max(shown)))
    left, top, bottom = 46, 20, _GROWTH_HEIGHT - 22
    width = WIDTH - left - 8

    def place(index: float, error: float) -> tuple[float, float]:
        up = (math.log10(error) - low) / (high - low)
        return left + width * (index + 0.5) / len(errors), bottom - (bottom - top) * up

    parts = _bands(chart.stages, left=left, width=width, top=top, bottom=bottom)
    for decade in range(low, high + 1):
        _, y = place(0, 10.0**decade)
        parts.append(f'<line class="grid" x1="{left}" x2="{WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="axis" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{_percent(decade)}</text>')
    points = [place(index, error) for index, error in enumerate(errors)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts.append(f'<polygon class="area" points="{points[0][0]:.1f},{bottom} {line} {points[-1][0]:.1f},{bottom}"/>')
    parts.append(f'<polyline class="line" points="{line}"/>')
    if limit is not None:
        _, y = place(0, limit)
        parts.append(f'<line class="limit" x1="{left}" x2="{WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="limit-text" x="{WIDTH - 10}" y="{y - 5:.1f}" text-anchor="end">'
            f"limit {escape(significant(100 * limit))} %</text>"
        )
    worst = max(range(len(errors)), key=errors.__getitem__)
    told = chart.labels.index(chart.marked) if chart.marked in chart.labels else worst
    for index, (x, y) in enumerate(points):
        tone = "bad" if index == told else "neutral"
        parts.append(
            f'<circle class="point tone-{tone}" cx="{x:.1f}" cy="{y:.1f}" r="{4 if index == told else 1.8}"><title>'
            f"{escape(f'{chart.labels[index]}: {significant(100 * chart.errors[index])} %')}</title></circle>"
        )
    x, y = points[told]
    side = "end" if x > WIDTH / 2 else "start"
    said = f"{shorten(chart.labels[told], _NAME)}  {significant(100 * chart.errors[told])} %"
    parts.append(
        f'<text x="{x + (-8 if side == "end" else 8):.1f}" y="{max(y - 7, 12):.1f}" text-anchor="{side}">'
        f"{escape(said)}</text>"
    )
    return f'<svg viewBox="0 0 {WIDTH} {_GROWTH_HEIGHT}">{"".join(parts)}</svg>'


def _bands(stages: Sequence[str], *, left: float, width: float, top: float, bottom: float) -> list[str]:
    """Shade every other part of the network, and name the parts that have room for it."""
    parts, start, number = [], 0, 0
    for index in range(1, len(stages) + 1):
        if index < len(stages) and stages[index] == stages[start]:
            continue
        x, wide = left + width * start / len(stages), width * (index - start) / len(stages)
        if number % 2:
            parts.append(
                f'<rect class="band" x="{x:.1f}" y="{top}" width="{wide:.1f}" height="{bottom - top}">'
                f"<title>{escape(stages[start])}</title></rect>"
            )
        if wide >= CHARACTER * len(stages[start]):
            parts.append(
                f'<text class="axis" x="{x + wide / 2:.1f}" y="{bottom + 15}" text-anchor="middle">'
                f"{escape(stages[start])}</text>"
            )
        start, number = index, number + 1
    return parts


def _percent(decade: int) -> str:
    return f"{10 ** (decade + 2)} %" if decade >= -2 else f"{10.0 ** (decade + 2):.{-decade - 2}f} %"


def _histogram(chart: Histogram) -> str:
    if not chart.counts or chart.end <= 0:
        return ""
    top = math.log1p(max(chart.counts)) or 1.0
    step = (WIDTH - 20) / len(chart.counts)
    above = 12 * len(chart.marks) + 6
    bottom = above + _COUNTS_HEIGHT
    parts = []
    for index, count in enumerate(chart.counts):
        tall = _COUNTS_HEIGHT * math.log1p(count) / top
        if tall > 0:
            x, y = 10 + index * step, bottom - tall
            parts.append(f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{step:.2f}" height="{tall:.1f}"/>')
    for row, mark in enumerate(chart.marks):
        x = 10 + (WIDTH - 20) * min(mark.value / chart.end, 1.0)
        side = "end" if x > WIDTH / 2 else "start"
        weight = ' font-weight="bold"' if mark.strong else ""
        y = 12 * (row + 1)
        parts.append(f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{bottom}"/>')
        parts.append(
            f'<text class="limit-text" x="{x + (-4 if side == "end" else 4):.1f}" y="{y}" text-anchor="{side}"{weight}>'
            f"{escape(f'{mark.label} {mark.value:.4g}')}</text>"
        )
    parts.append(f'<text class="axis" x="10" y="{bottom + 14}">0</text>')
    parts.append(f'<text class="axis" x="{WIDTH - 10}" y="{bottom + 14}" text-anchor="end">{chart.end:.4g}</text>')
    return f'<svg viewBox="0 0 {WIDTH} {bottom + 18}">{"".join(parts)}</svg>'
