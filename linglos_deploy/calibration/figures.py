"""Histograms of a table with the thresholds drawn in: one HTML page that needs nothing else, or single drawings."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.calibration.bins import lower_edges, upper_edges
from linglos_deploy.calibration.registry import threshold_methods
from linglos_deploy.calibration.statistics import TensorStatistics
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.calibration.thresholds import threshold

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH, HEIGHT, MARGIN = 640, 150, 24
COLUMNS = 160
COLOURS = ("#6b7280", "#7c3aed", "#047857", "#b45309", "#be185d", "#0369a1", "#4d7c0f", "#7f1d1d")
"""Of the methods, in the order of their names; more methods begin again."""


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 46rem; padding: 0 1rem; color: #111827 }
h1 { font-size: 1.4rem } h2 { font: 600 .95rem ui-monospace, monospace; margin: 2rem 0 .2rem; overflow-wrap: anywhere }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem } dt { color: #6b7280 } dd { margin: 0 }
p { margin: .2rem 0; color: #374151 } svg { width: 100%; height: auto } .bar { fill: #93c5fd }
.warn { background: #fef3c7; padding: .5rem .8rem; border-radius: .3rem }
text { font: 11px system-ui, sans-serif; fill: #374151 }
"""


def table_html(table: CalibrationTable, *, percentile: float = 99.99, chosen: Mapping[str, float] | None = None) -> str:
    """Return a page with one histogram per tensor.

    Args:
        table: What to show.
        percentile: For the method ``percentile``.
        chosen: Bounds that a plan settled on, by tensor, drawn in black.
    """
    chosen = chosen or {}
    sections = [
        f"<h2>{html.escape(name)}</h2><p>{html.escape(describe(stats))}</p>"
        + histogram_svg(stats, percentile=percentile, chosen=chosen.get(name))
        for name, stats in table.tensors.items()
    ]
    facts = "".join(f"<dt>{html.escape(key)}</dt><dd>{html.escape(value)}</dd>" for key, value in facts_of(table))
    warning = (
        '<p class="warn">Synthetic images: good for graphs and latency, useless for accuracy.</p>'
        if table.synthetic
        else ""
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Calibration table</title>'
        f"<style>{_STYLE}</style></head><body><h1>Calibration table</h1>{warning}<dl>{facts}</dl>"
        "<p>Magnitudes on a linear axis, counts on a logarithmic one.</p>"
        f"{''.join(sections)}</body></html>\n"
    )


def histogram_svg(stats: TensorStatistics, *, percentile: float = 99.99, chosen: float | None = None) -> str:
    """Return one drawing: counts of magnitudes, the bound of every method, and the chosen one if there is one."""
    largest = stats.absolute_maximum
    if largest == 0:
        return "<p>nothing to draw: no value but zero</p>"
    heights = _columns(stats, largest)
    top = math.log1p(float(heights.max())) or 1.0
    step = (WIDTH - 2 * MARGIN) / COLUMNS
    room = HEIGHT - 2 * MARGIN
    bars = "".join(
        f'<rect class="bar" x="{MARGIN + column * step:.1f}" y="{HEIGHT - MARGIN - tall:.1f}" '
        f'width="{step:.2f}" height="{tall:.1f}"/>'
        for column, tall in enumerate(room * np.log1p(heights) / top)
        if tall > 0
    )
    lines = [
        (method, threshold(stats, method, percentile=percentile), COLOURS[place % len(COLOURS)])
        for place, method in enumerate(threshold_methods())
    ]
    if chosen is not None:
        lines.append(("chosen", chosen, "#000000"))
    drawn = "".join(_line(label, bound, largest, colour, row) for row, (label, bound, colour) in enumerate(lines))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="histogram of magnitudes">{bars}{drawn}'
        f'<text x="{MARGIN}" y="{HEIGHT - 8}">0</text>'
        f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - 8}" text-anchor="end">{largest:.4g}</text></svg>'
    )


def describe(stats: TensorStatistics) -> str:
    """Return one line about a tensor."""
    if stats.finite == 0:
        return f"{stats.count} values, none of them finite" if stats.count else "no values"
    line = f"{stats.count} values, {stats.minimum:.4g} ... {stats.maximum:.4g}, mean {stats.mean:.4g} ± {stats.std:.4g}"
    return line + (f", {stats.non_finite} not finite" if stats.non_finite else "")


def facts_of(table: CalibrationTable) -> tuple[tuple[str, str], ...]:
    """Return what a table says about itself, as names and texts."""
    sampling = table.sampling
    shards = "; ".join(
        "all images" if part.complete else f"shards {', '.join(map(str, part.seen))} of {part.shards}"
        for part in table.coverage
    )
    return (
        ("images", f"{table.image_count}" + (" (synthetic)" if table.synthetic else "")),
        ("tensors", str(len(table.tensors))),
        ("graph", table.graph_digest),
        ("preprocessing", table.preprocess_digest or "unknown"),
        ("data", table.data_digest),
        (
            "coverage",
            (shards or "unknown") + ("" if table.position is None else f", stopped at image {table.position}"),
        ),
        (
            "elements",
            "all"
            if sampling.every == 1
            else f"one of {sampling.every} in histograms and moments, seed {sampling.seed}",
        ),
        ("tools", ", ".join(f"{name} {version}" for name, version in table.tools.items()) or "unknown"),
    )


def _columns(stats: TensorStatistics, largest: float) -> NDArray[np.float64]:
    """Spread the counts of the bins over equally wide columns."""
    bins, counts = stats.magnitudes()
    low, high = lower_edges(bins), np.minimum(upper_edges(bins), largest)
    running = np.concatenate([[0.0], np.cumsum(counts)])
    edges = np.concatenate([low, high[-1:]])
    return np.diff(np.interp(np.linspace(0.0, largest, COLUMNS + 1), edges, running))


def _line(label: str, bound: float, largest: float, colour: str, row: int) -> str:
    x = MARGIN + (WIDTH - 2 * MARGIN) * min(bound / largest, 1.0)
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{MARGIN}" y2="{HEIGHT - MARGIN}" stroke="{colour}" stroke-width="1.5"/>'
        f'<text x="{x - 4:.1f}" y="{MARGIN + 12 * row:.1f}" text-anchor="end" style="fill:{colour}">'
        f"{html.escape(label)} {bound:.4g}</text>"
    )
