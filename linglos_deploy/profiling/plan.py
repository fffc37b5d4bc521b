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


@dataclass(frozen=True, slots=True)
class MeasurementPlan:
    """How candidates are measured. Every row runs until both its least number of runs and its least time are reached.

    Attributes:
        batch_sizes: Images a run; each gives rows of its own.
        threads: Threads a run, 0 for the backend's choice; each gives rows of its own.
        image_size: Height and width for models that take any; ``None`` for the size that the first
            model with a fixed one insists on, else the model's own, else 224 x 224.
        shapes: Whole shapes of inputs by name, for models that leave other sizes open than those of images.
        data: An ``.npz`` of arrays by input name whose first samples are run, instead of random numbers.
        rounds: How often the candidates take turns.
        min_runs: Least number of timed runs a row, over all rounds.
        min_seconds: Least timed seconds a row, over all rounds.
        warmup_runs: Least number of untimed runs after the first.
        warmup_seconds: Least untimed seconds after the first run.
        timeout_seconds: Limit for opening with the first run, and for each round beyond its own time.
        baseline: Label of the candidate that ratios refer to; by default the first.
        confidence: Of the intervals of the ratios.
        bootstrap: Resamples behind each interval.
        seed: Of the random input and of the bootstrap.
        operators: Whether to add the time per operator type, where the backend can tell.
    """

    batch_sizes: tuple[int, ...] = (1,)
    threads: tuple[int, ...] = (0,)
    image_size: tuple[int, int] | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    data: Path | None = None
    rounds: int = 8
    min_runs: int = 48
    min_seconds: float = 2.0
    warmup_runs: int = 3
    warmup_seconds: float = 0.3
    timeout_seconds: float = 300.0
    baseline: str | None = None
    confidence: float = 0.95
    bootstrap: int = 1000
    seed: int = 0
    operators: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_sizes", "threads"):
            object.__setattr__(self, name, tuple(dict.fromkeys(getattr(self, name))))
        _check(all(size >= 1 for size in self.batch_sizes) and bool(self.batch_sizes), "batch sizes", "1 or more")
        _check(all(count >= 0 for count in self.threads) and bool(self.threads), "threads", "0 or more")
        _check(self.image_size is None or min(self.image_size) >= 1, "the image size", "positive numbers")
        _check(self.rounds >= 1, "rounds", "1 or more")
        _check(self.min_runs >= 1, "the least number of runs", "1 or more")
        _check(self.min_seconds >= 0, "the least time", "0 seconds or more")
        _check(self.warmup_runs >= 0 and self.warmup_seconds >= 0, "the warm-up", "0 or more")
        _check(self.timeout_seconds > 0, "the timeout", "more than 0 seconds")
        _check(0 < self.confidence < 1, "the confidence", "between 0 and 1, such as 0.95")
        _check(self.bootstrap >= 1, "bootstrap resamples", "1 or more")


@dataclass(frozen=True, slots=True)
class LatencyBudget:
    """The slowest acceptable median.

    Attributes:
        max_p50_ms: In milliseconds, for each run of every row.
    """

    max_p50_ms: float

    def __post_init__(self) -> None:
        _check(self.max_p50_ms > 0, "the latency budget", "more than 0 milliseconds")


def _check(holds: bool, what: str, expected: str) -> None:
    if not holds:
        raise UsageError(f"A measurement cannot be made with these values for {what}.", expected=expected)
