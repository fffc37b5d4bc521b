"""When a process is warm: its latency has stopped falling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

WINDOW_SECONDS = 0.03
COMPARED = 3
"""Windows on each side of the comparison."""

STILL_FALLING = 0.98
"""Newer windows over older ones below which latency is still falling."""


@dataclass(frozen=True, slots=True)
class Warmed:
    """How a warm-up went.

    Attributes:
        runs: Untimed runs after the first.
        seconds: That they took.
        steady: Whether latency had stopped falling.
    """

    runs: int
    seconds: float
    steady: bool


def warm_up(run: Callable[[], object], *, longest: float, clock: Callable[[], float]) -> Warmed:
    """Run until the latency is steady.

    Args:
        run: One run.
        longest: Seconds after which to give up.
        clock: Tells the seconds.
    """
    started = now = clock()
    windows: list[float] = []
    runs = 0
    while now - started < longest:
        window: list[float] = []
        begun = now
        while not window or now - begun < WINDOW_SECONDS:
            run()
            before, now = now, clock()
            window.append(now - before)
        runs += len(window)
        windows.append(median(window))
        if is_steady(windows):
            return Warmed(runs, now - started, steady=True)
    return Warmed(runs, now - started, steady=False)


def is_steady(medians: Sequence[float]) -> bool:
    """Tell whether the newest windows are no faster than those before them; more windows make no difference."""
    if len(medians) < 2 * COMPARED:
        return False
    newer, older = medians[-COMPARED:], medians[-2 * COMPARED : -COMPARED]
    return median(newer) >= STILL_FALLING * median(older)
