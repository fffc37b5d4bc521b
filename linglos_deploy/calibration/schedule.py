"""How a pass over the images is spread over cores and memory.

Runs of few images, side by side, beat runs of many that share all cores: a core that works on an image of its own never
waits for another one (docs/decisions/calibration.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from linglos_deploy.errors import UsageError

LARGEST_RUN = 64
_RUNS_PER_BATCH = 3
"""Runs of each of several workers between two checkpoints, for which all wait for each other."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Who does what.

    Attributes:
        workers: Runs at the same time.
        images: Images of one run.
        counters: Threads that compute statistics. Half as many as cores: NumPy holds Python's lock for parts of the
            work, and more of them wait for each other.
    """

    workers: int
    images: int
    counters: int = 1

    @property
    def batch(self) -> int:
        """Images that are read together, and that an interruption may cost."""
        return self.images * self.workers * (1 if self.workers == 1 else _RUNS_PER_BATCH)


def schedule_for(
    memory_budget: int, *, bytes_per_image: int | None, fixed: int | None, cores: int, images: int | None = None
) -> Schedule:
    """Return as many workers as there are cores and memory for, each with as many images as still fit.

    Args:
        memory_budget: Bytes that the activations of all runs may take; one run is made in any case.
        bytes_per_image: Bytes of one image's activations; ``None`` if unknown, which leaves one image at a time.
        fixed: Batch size of the graph, ``None`` if it takes any.
        cores: Threads that may be used.
        images: Images of one run, instead of what fits.

    Raises:
        UsageError: The graph takes another number of images than is asked for.
    """
    if fixed is not None and images is not None and images != fixed:
        raise UsageError(
            "The graph has a batch size of its own.",
            found=f"{images} images asked for",
            expected=f"{fixed} at a time",
            next_step="leave --batch out, or export the graph with a free batch size",
        )
    fitting = 1 if bytes_per_image is None else max(1, memory_budget // max(1, bytes_per_image))
    least = fixed or images or 1
    wanted = cores if cores == 1 else cores + 1  # one is being counted while all cores run
    workers = max(1, min(wanted, fitting // least))
    chosen = least if fixed or images else min(LARGEST_RUN, max(1, fitting // workers))
    return Schedule(workers=workers, images=chosen, counters=max(1, cores // 2))
