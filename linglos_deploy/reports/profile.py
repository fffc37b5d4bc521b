"""What a measurement of latency found, with everything a reader needs to judge it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Literal

from linglos_deploy.compat import StrEnum
from linglos_deploy.reports.doctor import Machine

FEWEST_SIZES = 4
"""Sizes from which an exponent is given: with three, Student's factor is 12.7."""

PERCENTILE_CONFIDENCE = 0.95
PERCENTILE_MARGIN = 0.5
"""Part of what lies beyond a percentile by which its estimate may be off."""


class Outcome(StrEnum):
    """What became of one candidate."""

    MEASURED = "measured"
    FAILED = "failed"
    """It broke, hung or gave no answer; the reason says how."""
    NOT_RUN = "not-run"
    """Something it needs is missing on this machine; the reason says what."""


@dataclass(frozen=True, slots=True)
class Outliers:
    """Runs beyond Tukey's fences, counted and kept (Tukey, Exploratory Data Analysis, 1977, section 2E).

    The fences of a process lie 1.5 and 3 interquartile ranges beyond the quartiles of its own runs.

    Attributes:
        low_severe: Below the outer fence.
        low_mild: Between the lower fences.
        high_mild: Between the upper fences.
        high_severe: Above the outer fence.
    """

    low_severe: int = 0
    low_mild: int = 0
    high_mild: int = 0
    high_severe: int = 0

    @property
    def count(self) -> int:
        """All of them."""
        return self.low_severe + self.low_mild + self.high_mild + self.high_severe


@dataclass(frozen=True, slots=True)
class Latency:
    """Time of one run on one batch, in milliseconds, over all runs of all processes after warm-up.

    Attributes:
        runs: How many were timed.
        mean: Arithmetic mean.
        minimum: Fastest run.
        p50: Median.
        p90: 90th percentile (linear interpolation between order statistics); ``None`` from too few runs.
        p99: 99th percentile; ``None`` from too few runs.
        maximum: Slowest run.
        variation: Coefficient of variation: standard deviation over mean.
        round_medians: Median of each round of each process, in the order in which they were timed.
        processes: In how many processes, one after the other.
        low: Lower end of the interval of the median of a process; ``None`` from too few processes.
        high: Upper end.
        outliers: Runs beyond Tukey's fences.
    """

    runs: int
    mean: float
    minimum: float
    p50: float
    p90: float | None
    p99: float | None
    maximum: float
    variation: float
    round_medians: tuple[float, ...]
    processes: int = 1
    low: float | None = None
    high: float | None = None
    outliers: Outliers = Outliers()


@dataclass(frozen=True, slots=True)
class ColdStart:
    """What the first answer costs in a fresh process, in milliseconds, with the file already in the page cache.

    Attributes:
        open: Importing the backend's package, reading the artifact and preparing it.
        first_run: The first run on a batch.
    """

    open: float
    first_run: float


class Finding(StrEnum):
    """What the comparison of two candidates says."""

    FASTER = "faster"
    SLOWER = "slower"
    NO_DIFFERENCE = "no measurable difference"
    """The interval contains 1, or the difference is smaller than what counts as one."""
    CANNOT_TELL = "cannot tell"
    """There are too few processes for an interval."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Latency over the baseline's: geometric mean over blocks, each with a fresh process of both in turns.

    Attributes:
        baseline: Label of the baseline.
        value: Below 1 is faster than the baseline.
        low: Lower end of the confidence interval; ``None`` from too few blocks.
        high: Upper end.
        confidence: Of the interval, such as 0.95.
        finding: What this says.
        blocks: Over how many.
    """

    baseline: str
    value: float
    low: float | None
    high: float | None
    confidence: float
    finding: Finding
    blocks: int


class Against(StrEnum):
    """What latency grows with."""

    PIXELS = "pixels"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Scaling:
    """How the latency of one candidate grows with a size, as a power: 1 takes twice as long for twice as much.

    Attributes:
        label: The candidate's label.
        against: The size.
        threads: Threads of one run, 0 for the backend's choice.
        batch: Images a run; ``None`` where it is what grows.
        image_size: Height and width; ``None`` where their product is what grows, or there are no images.
        points: From how many sizes.
        exponent: Of the power; ``None`` from too few sizes.
        low: Lower end of its interval.
        high: Upper end.
        confidence: Of the interval, such as 0.95.
    """

    label: str
    against: Against
    threads: int
    batch: int | None
    image_size: tuple[int, int] | None
    points: int
    exponent: float | None
    low: float | None
    high: float | None
    confidence: float


@dataclass(frozen=True, slots=True)
class LayerTime:
    """One step of a run, as the runtime executed it.

    Attributes:
        layer: What the runtime calls it.
        module: PyTorch module that it belongs to; a step that the runtime put in belongs to the one that needs it.
        operator: What it does, such as ``Conv``.
        dtype: Type of what it works on, such as ``float32``; empty if the runtime does not say.
        milliseconds: Its time in one run, mean over the quieter half of the profiled runs.
        share: Part of the time of all steps, 0 to 1.
        macs: Multiplications that it has to make, each with its addition; ``None`` if unknown.
        bytes: What it has to read and write at least; ``None`` if unknown.
    """

    layer: str
    module: str
    operator: str
    dtype: str
    milliseconds: float
    share: float
    macs: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class MachineLimits:
    """What the machine does at most, measured: its roofline (Williams, Waterman and Patterson, CACM 52(4), 2009).

    Attributes:
        threads: With so many threads.
        macs: Float32 multiplications with their additions a second, of a large matrix product.
        bytes: Bytes read and written a second, of a large copy.
    """

    threads: int
    macs: float
    bytes: float

    def least_ms(self, layer: LayerTime) -> float | None:
        """Return the time that a layer takes at least, in milliseconds; ``None`` where its work is not known."""
        if layer.macs is None or layer.bytes is None:
            return None
        return 1e3 * max(layer.macs / self.macs, layer.bytes / self.bytes)


@dataclass(frozen=True, slots=True)
class LayerProfile:
    """Where the time of one run goes, by the runtime's own profiler.

    Attributes:
        layers: In the order in which they run.
        latency_ms: Mean time of the same runs, from outside.
    """

    layers: tuple[LayerTime, ...]
    latency_ms: float

    @property
    def accounted(self) -> float:
        """Part of the latency that the layers add up to."""
        return sum(layer.milliseconds for layer in self.layers) / self.latency_ms


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """One candidate at one batch size, image size and number of threads.

    Attributes:
        label: What the report calls it.
        backend: Name of the backend.
        artifact: File name of the artifact, or the model's name.
        digest: SHA-256 of the artifact.
        precision: ``fp32``, ``fp16``, ``bf16``, ``int8`` or ``int8+fp16``; empty if unknown.
        batch: Images a run.
        image_size: Height and width of the images; what was asked for where it was not measured.
        threads: Threads of one run, 0 for the backend's choice.
        outcome: Whether it was measured.
        reason: Why not, empty if measured.
        latency: Time of a run.
        throughput: Images a second, one run after the other.
        cold_start: Cost of the first answer, median over the processes.
        peak_rss_bytes: Largest resident memory of the process that ran it, Python and all.
        ratio: Against the baseline at the same sizes and threads; ``None`` for the baseline itself.
        options: The backend's options, such as ``{"int8": "exact"}``.
        versions: Versions of what ran it.
        notes: What the reader must know about this row.
        layers: Time per layer, if asked for, where the backend can tell.
        cpu_use: CPU time of the process over time that passed during the timed runs: 1.9 means that almost two CPUs
            were at work; less than the threads, that they waited, for each other or for a CPU.
        steady: Whether latency had stopped falling in every process when timing began; ``None`` if nobody looked.
        file_bytes: Size of the artifact on disk.
        samples_ms: Every timed run: process by process, round by round, in the order in which they were timed.
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
    layers: LayerProfile | None = None
    cpu_use: float | None = None
    steady: bool | None = None
    file_bytes: int | None = None
    samples_ms: tuple[tuple[tuple[float, ...], ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Conditions:
    """What else decides the numbers.

    Attributes:
        instructions: The CPU's instruction sets for INT8 and 16-bit floats.
        physical_cores: Cores of the machine, 0 if unknown.
        load_before: One-minute load average before the first round.
        spinning: Whether idle worker threads spin between runs.
        usable_cpus: What a process gets of the CPUs at most: by its affinity, and by the quota of its control group.
        quota_cpus: The quota of the control group in CPUs; ``None`` without one.
        busy_before: Share of all CPUs that was busy just before the first round, 0 to 1.
        governor: Frequency governors of the CPUs, such as ``performance``; empty if they cannot be read.
        boost: Whether clocks may rise above the nominal one; ``None`` if that cannot be read.
        smt: Whether two threads share a core; ``None`` if that cannot be read.
        numa_nodes: Nodes of memory, 0 if unknown.
        power_mode: Power mode of a Jetson, empty elsewhere.
        thermal_throttles: How often a CPU was slowed down for its heat while measuring; ``None`` if nobody counts.
        quota_throttles: How often the quota stopped the control group while measuring; ``None`` if nobody counts.
    """

    instructions: tuple[str, ...]
    physical_cores: int
    load_before: float
    spinning: bool = False
    usable_cpus: float = 0.0
    quota_cpus: float | None = None
    busy_before: float | None = None
    governor: str = ""
    boost: bool | None = None
    smt: bool | None = None
    numa_nodes: int = 0
    power_mode: str = ""
    thermal_throttles: int | None = None
    quota_throttles: int | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """How it was measured.

    Attributes:
        processes: Processes of a candidate that were asked for; ``None``: as many as the precision needs.
        rounds: Turns of each process in its block.
        min_runs: Least number of timed runs of a process.
        min_seconds: Least timed seconds of a process.
        warmup_seconds: Longest time of a process until its latency is steady.
        precision_target: Half width of the intervals that was aimed at, relative; ``None`` for given processes.
        budget_seconds: Longest time of the whole measurement; ``None`` if none was given.
        min_effect: Smallest difference that counts as one, relative.
        confidence: Of the intervals.
        seed: Of the input, and of the order in which candidates are started and take turns.
        seconds: How long the measurement took.
    """

    processes: int | None
    rounds: int
    min_runs: int
    min_seconds: float
    warmup_seconds: float
    precision_target: float | None
    budget_seconds: float | None
    min_effect: float
    confidence: float
    seed: int
    seconds: float = 0.0


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
        image_size: The row's height and width.
    """

    label: str
    batch: int
    threads: int
    found_p50_ms: float | None
    limit_p50_ms: float
    passed: bool
    image_size: tuple[int, int] | None = None


class GateOutcome(StrEnum):
    """Whether a new model is slower than an old one by more than it may be."""

    PASSED = "passed"
    REGRESSED = "regressed"
    """It is, and a second measurement says so too."""
    CANNOT_TELL = "cannot tell"
    """The interval holds the limit, there is none, or a second measurement did not confirm the first."""


@dataclass(frozen=True, slots=True)
class GateCheck:
    """One new candidate against its counterpart.

    Attributes:
        label: The new candidate's label.
        baseline: Its counterpart's label.
        batch: The rows' batch size.
        threads: The rows' threads.
        limit: Largest accepted loss of speed, such as 0.05.
        ratio: New over old; ``None`` if one of them was not measured.
        outcome: The verdict.
        second: What the measurement that was to confirm a regression found; ``None`` if there was none.
        image_size: The rows' height and width.
    """

    label: str
    baseline: str
    batch: int
    threads: int
    limit: float
    ratio: Ratio | None
    outcome: GateOutcome
    second: Ratio | None = None
    image_size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class ProfileReport:
    """All rows of one measurement.

    Attributes:
        title: What was measured.
        machine: Where.
        conditions: What else decides the numbers.
        method: How.
        rows: Results: batch by batch and size by size, in the order of the candidates.
        checks: The latency budget against every row that could run here; empty without a budget.
        passed: Whether every candidate was measured and all checks passed.
        warnings: What makes the numbers less trustworthy, such as a busy machine.
        gates: New models against their counterparts; empty without a gate.
        scalings: How latency grows with pixels and batch, where there are several.
        limits: What the machine does at most, for each number of threads, where layers were asked for.
        schema: Name and version of this format.
    """

    title: str
    machine: Machine
    conditions: Conditions
    method: Method
    rows: tuple[ProfileRow, ...]
    checks: tuple[BudgetCheck, ...] = ()
    passed: bool = False
    warnings: tuple[str, ...] = ()
    gates: tuple[GateCheck, ...] = ()
    scalings: tuple[Scaling, ...] = ()
    limits: tuple[MachineLimits, ...] = ()
    schema: Literal["linglos.profile/2"] = "linglos.profile/2"


def runs_needed(quantile: float) -> int:
    """Return from how many runs a percentile is given.

    The formula is that of MLPerf Inference (Reddi et al., MLPerf Inference Benchmark, 2020, section III.D): as many as
    estimate the share of runs beyond it within a margin. MLPerf's margin is a twentieth of that share at 99 %
    confidence (262 742 runs for p99); here it is half of it at 95 %.

    >>> runs_needed(0.9), runs_needed(0.99)
    (139, 1522)
    """
    margin = PERCENTILE_MARGIN * (1 - quantile)
    z = NormalDist().inv_cdf((1 + PERCENTILE_CONFIDENCE) / 2)
    return math.ceil(z**2 * quantile * (1 - quantile) / margin**2)


def only_missing(report: ProfileReport) -> bool:
    """Tell whether nothing stands against a report but candidates for which this machine lacks something."""
    outcomes = {row.outcome for row in report.rows}
    regressed = any(gate.outcome is GateOutcome.REGRESSED for gate in report.gates)
    checked = all(check.passed for check in report.checks) and not regressed
    return Outcome.NOT_RUN in outcomes and Outcome.FAILED not in outcomes and checked


def only_undecided(report: ProfileReport) -> bool:
    """Tell whether nothing stands against a report but gates about which the figures cannot tell."""
    outcomes = {gate.outcome for gate in report.gates}
    measured = all(row.outcome is Outcome.MEASURED for row in report.rows)
    checked = measured and all(check.passed for check in report.checks)
    return checked and GateOutcome.CANNOT_TELL in outcomes and GateOutcome.REGRESSED not in outcomes
