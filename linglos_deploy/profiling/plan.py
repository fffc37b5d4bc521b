"""What is to be measured, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from linglos_deploy.errors import UsageError

if TYPE_CHECKING:
    from linglos_deploy.models.loading import ModelSource

OptionValue = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model on one backend.

    Attributes:
        backend: Name of a backend that runs models.
        path: An ONNX graph, or an engine with its ``.json`` sidecar beside it; or give ``source``.
        source: A PyTorch model for the ``torch`` backend.
        label: What the report calls it; by default the backend and the file's or the model's name.
        options: Options of the backend, such as ``{"int8": "exact"}``.
        device: Where it runs, such as ``cuda:1``; empty for the backend's default.
    """

    backend: str
    path: Path | None = None
    source: ModelSource | None = None
    label: str = ""
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    device: str = ""

    def __post_init__(self) -> None:
        if (self.path is None) == (self.source is None):
            raise UsageError(
                f"A candidate for '{self.backend}' needs one model.",
                found="none" if self.path is None else "a file and a PyTorch source",
                expected="a path, or a PyTorch source",
            )
        if not self.label:
            object.__setattr__(self, "label", f"{self.backend} {self.model_name}")

    @property
    def model_name(self) -> str:
        """The file's name, or what identifies the PyTorch model."""
        if self.path is not None:
            return self.path.name
        assert self.source is not None
        if self.source.checkpoint is not None:
            return self.source.checkpoint.name
        return self.source.own_module or f"LinGlo {self.source.variant}"


LEAST_PROCESSES = 6
"""Processes of a candidate from which is estimated how many the precision needs."""

MOST_PROCESSES = 50
"""Processes of a candidate at most, whatever precision is aimed at."""


@dataclass(frozen=True, slots=True)
class MeasurementPlan:
    """How candidates are measured.

    Attributes:
        batch_sizes: Images a run; each gives rows of its own.
        threads: Threads a run, the same for every candidate; each gives rows of its own. 0 leaves the choice to each
            backend, so that candidates may differ.
        image_sizes: Heights and widths for models that take any; each gives rows of its own. None for the size that
            the first model with a fixed one insists on, else the model's own; an error where none says it.
        shapes: Whole shapes of inputs by name, for models that leave other sizes open than those of images.
        data: An ``.npz`` of arrays by input name whose first samples are run, instead of random numbers.
        processes: Processes of each candidate; ``None`` for as many as the precision needs.
        precision_target: Half width of the interval of a ratio (of a median, if there is one candidate only) that is
            aimed at, relative; ``None`` for 2 %, where the number of processes is not given.
        budget_seconds: Longest time of the whole measurement; ``None`` for 20 seconds a row, and for the least number
            of processes however long they take.
        rounds: Turns of each process in its block.
        min_runs: Least number of timed runs of a process, over its rounds.
        min_seconds: Least timed seconds of a process, over its rounds.
        warmup_seconds: Longest time of a process until its latency is steady; 0 for no warm-up but the first run.
        timeout_seconds: Limit for opening with the first run, and for each round beyond its own time.
        baseline: Label of the candidate that ratios refer to; by default the first.
        confidence: Of the intervals.
        min_effect: Smallest difference that counts as one, relative.
        seed: Of the random input, and of the order of starts and turns; ``None`` for another one each time.
        layers: Whether to add the time per layer, where the backend can tell.
    """

    batch_sizes: tuple[int, ...] = (1,)
    threads: tuple[int, ...] = (1,)
    image_sizes: tuple[tuple[int, int], ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    data: Path | None = None
    processes: int | None = None
    precision_target: float | None = None
    budget_seconds: float | None = None
    rounds: int = 4
    min_runs: int = 12
    min_seconds: float = 0.6
    warmup_seconds: float = 3.0
    timeout_seconds: float = 300.0
    baseline: str | None = None
    confidence: float = 0.95
    min_effect: float = 0.01
    seed: int | None = None
    layers: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_sizes", "threads", "image_sizes"):
            object.__setattr__(self, name, tuple(dict.fromkeys(getattr(self, name))))
        _check(
            all(n >= 1 for n in self.batch_sizes) and bool(self.batch_sizes),
            "batch sizes",
            "1 or more",
            self.batch_sizes,
        )
        _check(all(n >= 0 for n in self.threads) and bool(self.threads), "threads", "0 or more", self.threads)
        sizes = self.image_sizes
        _check(all(min(size) >= 1 for size in sizes), "the image sizes", "positive numbers", sizes)
        _check(self.rounds >= 1, "rounds", "1 or more", self.rounds)
        _check(self.min_runs >= 1, "the least number of runs", "1 or more", self.min_runs)
        _check(self.min_seconds >= 0, "the least time", "0 seconds or more", self.min_seconds)
        _check(self.warmup_seconds >= 0, "the warm-up", "0 seconds or more", self.warmup_seconds)
        _check(self.timeout_seconds > 0, "the timeout", "more than 0 seconds", self.timeout_seconds)
        _check(0 < self.confidence < 1, "the confidence", "between 0 and 1, such as 0.95", self.confidence)
        _check(0 <= self.min_effect < 1, "the smallest difference that counts", "0 to below 1", self.min_effect)
        count, target, budget = self.processes, self.precision_target, self.budget_seconds
        _check(count is None or count >= 1, "processes", "1 or more", count)
        _check(target is None or 0 < target < 1, "the precision", "between 0 and 1, such as 0.02", target)
        _check(budget is None or budget > 0, "the budget", "more than 0 seconds", budget)
        if count is not None and (target is not None or budget is not None):
            raise UsageError(
                "A number of processes leaves nothing to a precision or a budget.",
                found=f"{count} processes and " + ("a precision" if target is not None else "a budget"),
                expected="the number of processes, or what shall decide it",
                next_step="leave out --processes, or --precision-target and --budget",
            )


@dataclass(frozen=True, slots=True)
class LatencyBudget:
    """The slowest acceptable median.

    Attributes:
        max_p50_ms: In milliseconds, for each run of every row.
    """

    max_p50_ms: float

    def __post_init__(self) -> None:
        _check(self.max_p50_ms > 0, "the latency budget", "more than 0 milliseconds", self.max_p50_ms)


def _check(holds: bool, what: str, expected: str, found: object) -> None:
    if not holds:
        raise UsageError(
            f"A measurement cannot be made with these values for {what}.",
            found=str(found),
            expected=expected,
            next_step="'linglos-deploy profile --help' lists the options",
        )
