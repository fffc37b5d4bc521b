"""Charts of several subjects at once: curves against a number, and how runs lie around their middle."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from linglos_deploy.reports.document import Curve, CurveChart, Point, Spread, SpreadChart
from linglos_deploy.reports.drawing import CHARACTER, MAX_LABEL, WIDTH, escape, nice_range, shorten
from linglos_deploy.reports.numbers import significant

COLOURS = 6
"""Colours of the style sheet; further curves begin again, with another shape."""

_SHAPES = ("circle", "square", "diamond", "triangle")
_HEIGHT, _TOP, _BOTTOM, _LEFT, _RIGHT = 250, 10, 38, 58, 16
_SPREAD_ROW, _SPREAD_TALL = 66, 32
_BETWEEN_TICKS = 34.0
"""Least distance of two names on the horizontal axis."""

Place = Callable[[float, float], tuple[float, float]]


def legend(chart: CurveChart) -> str:
    """Return what tells the curves apart, as text that wraps; empty for a single curve."""
    if len(chart.curves) < 2:
        return ""
    keys = "".join(
        f'<span><svg class="key" viewBox="-6 -6 12 12" aria-hidden="true">{_marker(index, 0, 0)}</svg>'
        f"{escape(curve.label)}</span>"
        for index, curve in enumerate(chart.curves)
    )
    return f'<p class="legend">{keys}</p>'


def draw_curves(chart: CurveChart) -> str:
    """Return the drawing of a chart of curves; empty if there is none with two points."""
    points = [point for curve in chart.curves for part in curve.parts for point in part]
    if not any(len({point.x for part in curve.parts for point in part}) > 1 for curve in chart.curves):
        return ""
    place, lines = _logarithmic(points) if chart.logarithmic else _linear(points)
    parts = []
    for value in lines:
        _, y = place(points[0].x, value)
        text = _share(value) if chart.percent else f"{value:g}"
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="axis" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    parts += _ticks(chart, place, lines[0])
    for index, curve in enumerate(chart.curves):
        parts += _curve(curve, index, place, percent=chart.percent)
    return f'<svg viewBox="0 0 {WIDTH} {_HEIGHT}">{"".join(parts)}</svg>'


def _linear(points: list[Point]) -> tuple[Place, list[float]]:
    """Return where values lie on axes of equal differences, and where lines go across."""
    left, right = min(point.x for point in points), max(point.x for point in points)
    bottom, top = nice_range(min(map(_lowest, points)), max(map(_highest, points)))

    def place(x: float, y: float) -> tuple[float, float]:
        return _place((x - left) / (right - left), (y - bottom) / (top - bottom))

    return place, [bottom + (top - bottom) * step / 4 for step in range(5)]


def _logarithmic(points: list[Point]) -> tuple[Place, list[float]]:
    """Return where values lie on axes of equal factors, and where lines go across: at 1, 2 and 5 of every decade."""
    left, right = (math.log(bound(point.x for point in points)) for bound in (min, max))
    low, high = min(map(_lowest, points)), max(map(_highest, points))
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    steps = [factor * 10.0**decade for decade in decades for factor in (1, 2, 5)]
    first = max(index for index, step in enumerate(steps) if step <= low)
    last = min(index for index, step in enumerate(steps) if step >= high and index > first)
    bottom, top = math.log(steps[first]), math.log(steps[last])

    def place(x: float, y: float) -> tuple[float, float]:
        return _place((math.log(x) - left) / (right - left), (math.log(y) - bottom) / (top - bottom))

    return place, steps[first : last + 1]


def _share(value: float) -> str:
    return f"{round(100 * value, 9):+g} %" if value else "0 %"


def _place(right: float, up: float) -> tuple[float, float]:
    inset = 10
    across = _LEFT + inset + (WIDTH - _LEFT - _RIGHT - 2 * inset) * right
    return across, _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * up


def _lowest(point: Point) -> float:
    return point.y if point.low is None else min(point.y, point.low)


def _highest(point: Point) -> float:
    return point.y if point.high is None else max(point.y, point.high)


def _ticks(chart: CurveChart, place: Place, bottom: float) -> Iterator[str]:
    """Name places on the horizontal axis, as far as they do not stand in each other's way."""
    free = -math.inf
    for value, name in chart.ticks:
        x, y = place(value, bottom)
        if x >= free:
            yield f'<text class="axis" x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{escape(name)}</text>'
            free = x + max(_BETWEEN_TICKS, CHARACTER * len(name) + 6)
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    yield f'<text class="axis" x="{middle:.1f}" y="{_HEIGHT - 4}" text-anchor="middle">{escape(chart.across)}</text>'


def _curve(curve: Curve, index: int, place: Place, *, percent: bool) -> Iterator[str]:
    colour = f"series-{index % COLOURS + 1}"
    for part in curve.parts:
        places = [place(point.x, point.y) for point in part]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        yield f'<polyline class="curve {colour}" points="{line}"/>'
        for point, (x, y) in zip(part, places, strict=True):
            if point.low is not None and point.high is not None:
                _, low = place(point.x, point.low)
                _, high = place(point.x, point.high)
                yield f'<line class="curve {colour}" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
            said = f"{100 * point.y:+.1f} %" if percent else significant(point.y)
            yield f"<g><title>{escape(f'{curve.label}: {said}')}</title>{_marker(index, x, y)}</g>"


def _marker(index: int, x: float, y: float) -> str:
    colour = f"marker series-{index % COLOURS + 1}"
    shape = _SHAPES[index % len(_SHAPES)]
    if shape == "circle":
        return f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
    corners = {
        "square": ((-2.7, -2.7), (2.7, -2.7), (2.7, 2.7), (-2.7, 2.7)),
        "diamond": ((0, -4), (4, 0), (0, 4), (-4, 0)),
        "triangle": ((0, -3.8), (3.6, 2.8), (-3.6, 2.8)),
    }[shape]
    points = " ".join(f"{x + right:.1f},{y + down:.1f}" for right, down in corners)
    return f'<polygon class="{colour}" points="{points}"/>'


def draw_spreads(chart: SpreadChart) -> str:
    """Return the drawing of a chart of spreads; empty without any."""
    if not chart.spreads or chart.end <= chart.start:
        return ""
    bottom = _SPREAD_ROW * len(chart.spreads)

    def across(value: float) -> float:
        return 4 + (WIDTH - 8) * (value - chart.start) / (chart.end - chart.start)

    parts = []
    for value in _steps(chart.start, chart.end):
        x = across(value)
        kind = "axis-line" if value == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{bottom}"/>')
        name = "median" if value == 0 else _share(value)
        side = "start" if x < 30 else "end" if x > WIDTH - 30 else "middle"
        parts.append(f'<text class="axis" x="{x:.1f}" y="{bottom + 14}" text-anchor="{side}">{name}</text>')
    for row, spread in enumerate(chart.spreads):
        parts += _spread(spread, row, across, chart=chart)
    return f'<svg viewBox="0 0 {WIDTH} {bottom + 20}">{"".join(parts)}</svg>'


def _steps(start: float, end: float) -> list[float]:
    """Return round numbers between two, zero among them, and not so many that their names would meet."""
    wide = (end - start) / 5
    unit = 10.0 ** math.floor(math.log10(wide))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= wide)
    return [round(count * step, 12) for count in range(math.ceil(start / step), math.floor(end / step) + 1)]


def _spread(spread: Spread, row: int, across: Callable[[float], float], *, chart: SpreadChart) -> Iterator[str]:
    ground = _SPREAD_ROW * (row + 1) - 10
    left, right = across(chart.start), across(chart.end)
    highest, step = max(spread.counts, default=0) or 1.0, (right - left) / (len(spread.counts) or 1)
    outline = [(left, float(ground))]
    for index, count in enumerate(spread.counts):
        y = ground - _SPREAD_TALL * count / highest
        outline += [(left + index * step, y), (left + (index + 1) * step, y)]
    outline.append((right, float(ground)))
    low, high = (across(min(max(value, chart.start), chart.end)) for value in spread.quartiles)
    beyond = f", {spread.beyond} runs beyond" if spread.beyond else ""
    name = escape(shorten(f"{spread.label}, {spread.text}", MAX_LABEL))
    yield f"<g><title>{escape(f'{spread.label}: {spread.text}{beyond}')}</title>"
    yield f'<polygon class="density" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in outline)}"/>'
    yield f'<line class="quartiles" x1="{low:.1f}" x2="{high:.1f}" y1="{ground + 3.5}" y2="{ground + 3.5}"/>'
    yield f'<text class="label" x="4" y="{ground - _SPREAD_TALL - 5}">{name}</text></g>'
