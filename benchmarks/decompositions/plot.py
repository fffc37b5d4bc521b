"""Draw docs/decompositions.svg from decompositions.json: latency and peak memory against pixels, both axes logarithmic.

python -m benchmarks.decompositions.plot build/decompositions/decompositions.json docs/decompositions.svg
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 340, 250, 62, 34, 44
COLOURS = {"linglo": "#1f77b4", "softmax": "#d62728"}
TITLES = {"linglo": "key-only attention (LinGlo s)", "softmax": "softmax attention, equal width"}


@dataclass(frozen=True, slots=True)
class Axis:
    """A logarithmic axis: values ``low`` to ``high`` on pixels ``start`` to ``stop``."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.stop - self.start)


def main() -> None:
    source, target = map(Path, sys.argv[1:3])
    scaling = json.loads(source.read_text())["scaling"]
    panels = [
        _panel(scaling, "milliseconds", "milliseconds per image, one thread", 0),
        _panel(scaling, "peak_mebibytes", "peak memory, MiB", WIDTH + 60),
    ]
    total = 2 * WIDTH + 60 + 20
    body = "\n".join(panels)
    target.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {HEIGHT + 24}" font-family="sans-serif" '
        f'font-size="11"><rect width="100%" height="100%" fill="white"/>\n{body}\n{_legend()}\n</svg>\n'
    )


def _panel(scaling: dict, what: str, title: str, offset: float) -> str:
    sizes = sorted(map(int, scaling["sizes"]))
    lines = {
        name: [(size, row[name][what]) for size in sizes if name in (row := scaling["sizes"][str(size)])]
        for name in COLOURS
    }
    values = [value for points in lines.values() for _, value in points]
    low, high = 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)))
    x = Axis(sizes[0] * 0.9, sizes[-1] * 1.1, offset + LEFT, offset + WIDTH)
    y = Axis(low, high, HEIGHT - BOTTOM, TOP)
    parts = [f'<text x="{offset + LEFT}" y="{TOP - 12}" font-weight="bold">{title}</text>']
    parts.extend(_grid(x, y, sizes, [low * 10**power for power in range(round(math.log10(high / low)) + 1)]))
    for name, points in lines.items():
        path = " ".join(f"{x(size):.1f},{y(value):.1f}" for size, value in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[name]}" stroke-width="2"/>')
        parts.extend(
            f'<circle cx="{x(size):.1f}" cy="{y(value):.1f}" r="3" fill="{COLOURS[name]}"/>' for size, value in points
        )
        slope = scaling["slopes"][what][name]
        last_x, last_y = x(points[-1][0]), y(points[-1][1])
        parts.append(
            f'<text x="{last_x - 6:.1f}" y="{last_y - 8:.1f}" text-anchor="end" fill="{COLOURS[name]}">'
            f"slope {slope:.2f}</text>"
        )
    return "\n".join(parts)


def _grid(x: Axis, y: Axis, sizes: Sequence[int], ticks: Sequence[float]) -> list[str]:
    lines = [
        f'<line x1="{x.start}" x2="{x.stop}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#ddd"/>'
        f'<text x="{x.start - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        for tick in ticks
    ]
    labels = [f'<text x="{x(size):.1f}" y="{y.start + 16}" text-anchor="middle">{size}&#178;</text>' for size in sizes]
    return [
        *lines,
        *labels,
        f'<text x="{(x.start + x.stop) / 2}" y="{y.start + 32}" text-anchor="middle">pixels</text>',
    ]


def _legend() -> str:
    parts = []
    for index, (name, title) in enumerate(TITLES.items()):
        left = LEFT + 260 * index
        parts.append(f'<circle cx="{left}" cy="{HEIGHT + 8}" r="4" fill="{COLOURS[name]}"/>')
        parts.append(f'<text x="{left + 10}" y="{HEIGHT + 12}">{title}</text>')
    return "\n".join(parts)


if __name__ == "__main__":
    main()
