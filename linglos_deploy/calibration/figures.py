"""The histogram of a tensor's magnitudes with the bound of every method, and what a table says about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.calibration.bins import lower_edges, upper_edges
from linglos_deploy.calibration.registry import threshold_methods
from linglos_deploy.calibration.statistics import TensorStatistics
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.calibration.thresholds import threshold
from linglos_deploy.reports.document import Histogram, Mark

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLUMNS = 160


def histogram(stats: TensorStatistics, *, percentile: float = 99.99, chosen: float | None = None) -> Histogram | None:
    """Return counts of magnitudes with the bound of every method; ``None`` where there is nothing but zeros.

    Args:
        stats: Of the tensor.
        percentile: For the method ``percentile``.
        chosen: The bound that a plan settled on.
    """
    largest = stats.absolute_maximum
    if largest == 0:
        return None
    marks = [Mark(name, threshold(stats, name, percentile=percentile)) for name in threshold_methods()]
    if chosen is not None:
        marks.append(Mark("chosen", chosen, strong=True))
    return Histogram(
        title="Magnitudes",
        caption="Linear axis, logarithmic counts; a line where each method would clip.",
        end=float(largest),
        counts=tuple(float(count) for count in _columns(stats, largest)),
        marks=tuple(marks),
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
