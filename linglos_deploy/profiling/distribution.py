"""What the shape of the timed runs says: drift, two modes, processes that differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from linglos_deploy.profiling.statistics import FEWEST_PROCESSES, Rounds

SIGNIFICANT = 0.01
"""Probability at which chance would show such a trend."""

LEAST_DRIFT = 0.03
"""Smallest relative change from the first to the last that is called drift."""

LEAST_GAP = 0.03
"""Smallest relative distance of two modes."""

LEAST_SHARE = 0.1
"""Smallest part of the runs that makes a mode."""

DEEPEST_VALLEY = 0.5
"""Density between two modes, over that of the lower one, above which they are one."""

LEAST_RUNS = 24
"""Runs of a process below which its shape cannot be told."""

_GRID = 256


def describe_distribution(processes: Sequence[Rounds]) -> tuple[str, ...]:
    """Return a sentence for everything about the runs of a row that one number hides."""
    return tuple(
        sentence
        for sentence in (
            _drift_of_the_machine(processes),
            _drift_within_processes(processes),
            _two_modes(processes),
        )
        if sentence
    )


def _drift_of_the_machine(processes: Sequence[Rounds]) -> str:
    """Look for a trend over the whole measurement: Kendall's test, and the slope of Theil and Sen."""
    from scipy import stats

    medians = np.array([np.median(np.concatenate([np.asarray(part) for part in rounds])) for rounds in processes])
    if medians.size < FEWEST_PROCESSES:
        return ""
    order = np.arange(medians.size)
    slope = stats.theilslopes(medians, order).slope
    change = float(slope * (medians.size - 1) / np.median(medians))
    if abs(change) < LEAST_DRIFT or stats.kendalltau(order, medians).pvalue >= SIGNIFICANT:
        return ""
    return f"drift: {change:+.0%} from the first to the last process"


def _drift_within_processes(processes: Sequence[Rounds]) -> str:
    """Look for a trend that every process shows anew: Student's test on their slopes."""
    from scipy import stats

    count = min(len(rounds) for rounds in processes)
    if len(processes) < FEWEST_PROCESSES or count < 3:
        return ""
    changes = []
    for rounds in processes:
        medians = np.array([np.median(part) for part in rounds])
        slope = stats.theilslopes(medians, np.arange(medians.size)).slope
        changes.append(float(slope * (medians.size - 1) / np.median(medians)))
    change = float(np.median(changes))
    if abs(change) < LEAST_DRIFT or np.ptp(changes) == 0:
        return ""
    if stats.ttest_1samp(changes, 0.0).pvalue >= SIGNIFICANT:
        return ""
    return f"drift: {change:+.0%} from the first to the last round of every process"


def _two_modes(processes: Sequence[Rounds]) -> str:
    """Say between which times the runs change over, if more than half of the processes show two modes."""
    found = []
    for rounds in processes:
        modes = two_modes(np.concatenate([np.asarray(part, dtype=np.float64) for part in rounds]))
        if modes is not None:
            found.append(modes)
    if 2 * len(found) <= len(processes):
        return ""
    low, high, share = np.median(np.array(found), axis=0)
    return f"two modes: runs take {low:.3g} ms or {high:.3g} ms ({share:.0%} of them), so the median says little"


def two_modes(values: np.ndarray) -> tuple[float, float, float] | None:
    """Return where two modes lie and which part of the runs belongs to the slower one; ``None`` for one mode.

    Modes are the peaks of a kernel density estimate of the logarithms (Silverman's bandwidth); the two highest are
    two if a valley parts them, they are apart enough to matter, and each holds a part of the runs.

    Args:
        values: Milliseconds of runs.
    """
    if values.size < LEAST_RUNS:
        return None
    low, high = np.percentile(values, (2, 98))
    logs = np.log(values[(values >= low) & (values <= high)])
    if np.ptp(logs) < LEAST_GAP:
        return None
    from scipy import signal, stats

    width = np.ptp(logs)
    grid = np.linspace(logs.min() - 0.2 * width, logs.max() + 0.2 * width, _GRID)
    density = stats.gaussian_kde(logs, bw_method="silverman")(grid)
    peaks, _ = signal.find_peaks(density)
    if peaks.size < 2:
        return None
    first, second = sorted(sorted(peaks, key=lambda place: -density[place])[:2])
    valley = first + int(np.argmin(density[first : second + 1]))
    share = float((logs > grid[valley]).mean())
    lower_peak = min(density[first], density[second])
    if density[valley] > DEEPEST_VALLEY * lower_peak or not LEAST_SHARE <= share <= 1 - LEAST_SHARE:
        return None
    if grid[second] - grid[first] < LEAST_GAP:
        return None
    return float(np.exp(grid[first])), float(np.exp(grid[second])), share
