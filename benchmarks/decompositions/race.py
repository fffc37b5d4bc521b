"""Interleaved runs of several graphs, one process each, and ratios with a confidence interval."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WORKER = Path(__file__).with_name("worker.py")


@dataclass(frozen=True, slots=True)
class Result:
    """One graph in one race.

    Attributes:
        milliseconds: Median CPU time of a run; one thread, so it is the latency without what other processes take.
        wall_milliseconds: Median wall time of a run.
        peak_mebibytes: Peak resident memory beyond the imported runtime.
        speedup: Median of the first graph's CPU time over this one's, round by round.
        low: Lower end of the 95 % bootstrap interval of ``speedup``.
        high: Its upper end.
        wall_speedup: Median of the wall times' ratios.
        rounds: Interleaved rounds.
    """

    milliseconds: float
    wall_milliseconds: float
    peak_mebibytes: float
    speedup: float
    low: float
    high: float
    wall_speedup: float
    rounds: int


def race(
    graphs: Mapping[str, Path], *, runtime: str, shape: tuple[int, ...], rounds: int, runs: int
) -> dict[str, Result]:
    """Run all graphs in turn, ``rounds`` times ``runs``, in alternating order; the first one is the yardstick."""
    return compare(tuple(graphs), interleave(graphs, runtime=runtime, shape=shape, rounds=rounds, runs=runs))


def interleave(
    graphs: Mapping[str, Path], *, runtime: str, shape: tuple[int, ...], rounds: int, runs: int
) -> np.ndarray:
    """Run all graphs in turn, each in one process.

    Returns:
        float64, rounds x graphs x 3: CPU time and wall time of a run in milliseconds, peak memory in mebibytes.
    """
    size = ",".join(map(str, shape))
    with ExitStack() as stack:
        workers = [stack.enter_context(_worker(runtime, path, size)) for path in graphs.values()]
        for name, worker in zip(graphs, workers, strict=True):
            if _line(worker) != "ready":
                raise RuntimeError(f"the worker for '{name}' did not start")
        samples = np.zeros((rounds, len(workers), 3))
        for index in range(rounds):
            order = range(len(workers)) if index % 2 == 0 else reversed(range(len(workers)))
            for place in order:
                samples[index, place] = _ask(workers[place], runs)
    return samples


def compare(names: Sequence[str], samples: np.ndarray, *, starts: int | None = None) -> dict[str, Result]:
    """Turn what :func:`interleave` measured into one result per graph; the first one is the yardstick.

    Args:
        names: What the graphs are called.
        samples: Rounds x graphs x 3.
        starts: From how many starts of the processes the rounds come, equally many from each. The intervals then
            say what another start may bring; ``None``: what another round may bring.
    """
    return {name: _result(samples, place, starts) for place, name in enumerate(names)}


def speedups(samples: np.ndarray, place: int) -> np.ndarray:
    """Return the first graph's CPU time over that of the graph at ``place``, round by round."""
    ratios: np.ndarray = samples[:, 0, 0] / samples[:, place, 0]
    return ratios


def geometric_mean(races: Sequence[np.ndarray], *, starts: int | None = None) -> tuple[float, tuple[float, float]]:
    """Return the geometric mean of the medians of several races' speedups, and its 95 % bootstrap interval."""
    generator = np.random.default_rng(0)  # one for all: the races are drawn independently
    draws = np.mean([np.log(_medians(ratios, generator, starts)) for ratios in races], axis=0)
    low, high = np.exp(np.percentile(draws, (2.5, 97.5)))
    mean = np.exp(np.mean([np.log(np.median(ratios)) for ratios in races]))
    return float(mean), (float(low), float(high))


def _worker(runtime: str, path: Path, size: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(WORKER), runtime, str(path), size]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def _line(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def _ask(worker: subprocess.Popen[str], runs: int) -> list[float]:
    assert worker.stdin is not None
    worker.stdin.write(f"{runs}\n")
    worker.stdin.flush()
    return [float(value) for value in _line(worker).split()]


def _result(samples: np.ndarray, place: int, starts: int | None) -> Result:
    ratios = speedups(samples, place)
    low, high = np.percentile(_medians(ratios, np.random.default_rng(0), starts), (2.5, 97.5))
    cpu, wall, peak = np.median(samples[:, place], axis=0)
    return Result(
        milliseconds=float(cpu),
        wall_milliseconds=float(wall),
        peak_mebibytes=float(peak),
        speedup=float(np.median(ratios)),
        low=float(low),
        high=float(high),
        wall_speedup=float(np.median(samples[:, 0, 1] / samples[:, place, 1])),
        rounds=len(ratios),
    )


def _medians(ratios: np.ndarray, generator: np.random.Generator, starts: int | None) -> np.ndarray:
    """Return the median of each of 2000 bootstrap draws; what one start measured is drawn as a whole."""
    blocks = ratios.reshape(starts or len(ratios), -1)
    drawn = blocks[generator.integers(len(blocks), size=(2000, len(blocks)))]
    medians: np.ndarray = np.median(drawn.reshape(len(drawn), -1), axis=1)
    return medians
