"""What a measurement of latency found, with everything a reader needs to judge it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from linglos_deploy.compat import StrEnum
from linglos_deploy.reports.doctor import Machine


class Outcome(StrEnum):
    """What became of one candidate."""

    MEASURED = "measured"
    FAILED = "failed"
    """It broke, hung or gave no answer; the reason says how."""
    NOT_RUN = "not-run"
    """Something it needs is missing on this machine; the reason says what."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Time of one run on one batch, in milliseconds, over all runs after warm-up.

    Attributes:
        runs: How many were timed.
        mean: Arithmetic mean.
        minimum: Fastest run.
        p50: Median.
        p90: 90th percentile (linear interpolation between order statistics).
        p99: 99th percentile; with fewer than 100 runs it says little more than the maximum.
        maximum: Slowest run.
        variation: Coefficient of variation: standard deviation over mean.
        round_medians: Median of each round, in order: a trend here is drift of the machine.
    """

    runs: int
    mean: float
    minimum: float
    p50: float
    p90: float
    p99: float
    maximum: float
    variation: float
    round_medians: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ColdStart:
    """What the first answer costs in a fresh process, in milliseconds, with the file already in the page cache.

    Attributes:
        open: Importing the backend's package, reading the artifact and preparing it.
        first_run: The first run on a batch.
    """

    open: float
    first_run: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """Median latency over the baseline's median latency, measured in alternating rounds.

    Attributes:
        baseline: Label of the baseline.
        value: Below 1 is faster than the baseline.
        low: Lower end of the bootstrap confidence interval.
        high: Upper end.
        confidence: Of the interval, such as 0.95.
    """

    baseline: str
    value: float
    low: float
    high: float
    confidence: float


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """Where the time of one run goes.

    Attributes:
        operator: Operator type, such as ``Conv``.
        calls: Nodes of that type executed in one run.
        milliseconds: Their time in one run (mean over the profiled runs).
        share: Part of all operators' time, 0 to 1.
    """

    operator: str
    calls: int
    milliseconds: float
    share: float


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """One candidate at one batch size and number of threads.

    Attributes:
        label: What the report calls it.
        backend: Name of the backend.
        artifact: File name of the artifact, or the model's name.
        digest: SHA-256 of the artifact.
        precision: ``fp32``, ``fp16``, ``bf16``, ``int8`` or ``int8+fp16``; empty if unknown.
        batch: Images a run.
        image_size: Height and width of the images.
        threads: Threads of one run, 0 for the backend's choice.
        outcome: Whether it was measured.
        reason: Why not, empty if measured.
        latency: Time of a run.
        throughput: Images a second, one run after the other.
        cold_start: Cost of the first answer.
        peak_rss_bytes: Largest resident memory of the process that ran it, Python and all.
        ratio: Against the baseline of the same batch size and threads; ``None`` for the baseline itself.
        options: The backend's options, such as ``{"int8": "exact"}``.
        versions: Versions of what ran it.
        notes: What the reader must know about this row.
        operators: Time per operator type, if asked for, largest first.
    """

    label: str
    backend: str
    artifact: str
    digest: str
    precision: str
    batch: int
    image_size: tuple[int, int] | None
    threads: int
    outcome: Outcome
    reason: str = ""
    latency: Latency | None = None
    throughput: float | None = None
    cold_start: ColdStart | None = None
    peak_rss_bytes: int | None = None
    ratio: Ratio | None = None
    options: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    operators: tuple[OperatorTime, ...] = ()


@dataclass(frozen=True, slots=True)
class Conditions:
    """What else decides the numbers.

    Attributes:
        instructions: The CPU's instruction sets for INT8 and 16-bit floats.
        physical_cores: Cores of the machine, 0 if unknown.
        load_before: One-minute load average before the first round.
        spinning: Whether idle worker threads spin between runs.
    """

    instructions: tuple[str, ...]
    physical_cores: int
    load_before: float
    spinning: bool = False


@dataclass(frozen=True, slots=True)
class Method:
    """How it was measured.

    Attributes:
        rounds: Rounds in which the candidates took turns.
        min_runs: Least number of timed runs a row.
        min_seconds: Least timed seconds a row.
        warmup_runs: Least number of untimed runs before.
        warmup_seconds: Least untimed seconds before.
        seed: Of the input and of the bootstrap.
        bootstrap: Resamples behind each interval.
    """

    rounds: int
    min_runs: int
    min_seconds: float
    warmup_runs: int
    warmup_seconds: float
    seed: int
    bootstrap: int


@dataclass(frozen=True, slots=True)
class BudgetCheck:
    """One row against the latency budget.

    Attributes:
        label: The row's label.
        batch: The row's batch size.
        threads: The row's threads.
        found_p50_ms: Its median latency, ``None`` if it was not measured.
        limit_p50_ms: The budget.
        passed: Whether it was measured and is within the budget.
    """

    label: str
    batch: int
    threads: int
    found_p50_ms: float | None
    limit_p50_ms: float
    passed: bool


@dataclass(frozen=True, slots=True)
class ProfileReport:
    """All rows of one measurement.

    Attributes:
        title: What was measured.
        machine: Where.
        conditions: What else decides the numbers.
        method: How.
        rows: Results: batch by batch, in the order of the candidates.
        checks: The latency budget against every row that could run here; empty without a budget.
        passed: Whether all checks passed; a candidate that failed also fails a budget, one that was not run does not.
        warnings: What makes the numbers less trustworthy, such as a busy machine.
        schema: Name and version of this format.
    """

    title: str
    machine: Machine
    conditions: Conditions
    method: Method
    rows: tuple[ProfileRow, ...]
    checks: tuple[BudgetCheck, ...] = ()
    passed: bool = True
    warnings: tuple[str, ...] = ()
    schema: Literal["linglos.profile/1"] = "linglos.profile/1"
