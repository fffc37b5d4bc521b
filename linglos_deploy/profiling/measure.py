"""Measure latencies so that they can be compared: fresh processes in blocks, in turns, ratios with intervals."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence

import numpy as np

from linglos_deploy.backends import registry
from linglos_deploy.backends.machine import describe_machine
from linglos_deploy.errors import UsageError
from linglos_deploy.profiling.blocks import Measurement, run_block
from linglos_deploy.profiling.describe import Described, describe
from linglos_deploy.profiling.inputs import fixed_image_size
from linglos_deploy.profiling.limits import measure_limits
from linglos_deploy.profiling.machine import count_throttles, this_machines_conditions, warnings_about, with_throttles
from linglos_deploy.profiling.plan import LEAST_PROCESSES, MOST_PROCESSES, Candidate, LatencyBudget, MeasurementPlan
from linglos_deploy.profiling.remarks import add_remarks, precision_warnings
from linglos_deploy.profiling.rows import baseline_of, comparable, rows_of
from linglos_deploy.profiling.scaling import scalings
from linglos_deploy.profiling.statistics import log_medians, log_ratios, processes_needed
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.reports.profile import BudgetCheck, MachineLimits, Method, Outcome, ProfileReport, ProfileRow

PRECISION_TARGET = 0.02
SECONDS_PER_ROW = 20.0
"""What a row may cost where no budget was given and the first few processes did not suffice."""

STAGE = "measure latency"


def measure(
    candidates: Sequence[Candidate],
    plan: MeasurementPlan,
    *,
    budget: LatencyBudget | None = None,
    title: str = "Latency",
    progress: Progress = SILENT,
) -> ProfileReport:
    """Measure every candidate at every batch size, image size and number of threads of the plan.

    Candidates of the same sizes and threads are measured in blocks, see :mod:`.blocks`. The first few blocks tell
    how many more the precision needs, and those are made as far as the time suffices. A candidate that crashes, hangs
    or cannot run here becomes a row that says so.

    Args:
        candidates: What to measure; labels must differ.
        plan: How.
        budget: The slowest acceptable median; part of the report's verdict.
        title: Of the report.
        progress: Told about every process.

    Raises:
        UsageError: There is no candidate, two have one label, a backend or the baseline is unknown, or a model does
            not take what was asked for.
        ArtifactError: A model file is missing or damaged.
    """
    _check(candidates, plan)
    described = [None if candidate.path is None else describe(candidate.path) for candidate in candidates]
    common = _common_image_size(described)
    seed = secrets.randbits(31) if plan.seed is None else plan.seed
    order = np.random.default_rng(seed)
    machine, conditions = describe_machine(), this_machines_conditions()
    throttles, started = count_throttles(), time.monotonic()
    groups = [
        [
            Measurement(candidate, known, batch, threads, size or _own_image_size(known) or common)
            for candidate, known in zip(candidates, described, strict=True)
        ]
        for batch in plan.batch_sizes
        for size in plan.image_sizes or (None,)
        for threads in plan.threads
    ]
    for place, group in enumerate(groups):
        measure_group(
            group,
            plan,
            seconds=_share_of_time(plan, group, started=started, groups_left=len(groups) - place),
            block=lambda advance, group=group: run_block(group, plan, seed=seed, order=order, advance=advance),
            progress=progress,
        )
    rows = add_remarks([row for group in groups for row in rows_of(group, plan)], conditions)
    conditions = with_throttles(conditions, throttles, count_throttles())
    checks = _checks(rows, budget)
    measured = all(row.outcome is Outcome.MEASURED for row in rows)
    method = Method(
        processes=plan.processes,
        rounds=plan.rounds,
        min_runs=plan.min_runs,
        min_seconds=plan.min_seconds,
        warmup_seconds=plan.warmup_seconds,
        precision_target=None if plan.processes is not None else plan.precision_target or PRECISION_TARGET,
        budget_seconds=plan.budget_seconds,
        min_effect=plan.min_effect,
        confidence=plan.confidence,
        seed=seed,
        seconds=round(time.monotonic() - started, 1),
    )
    return ProfileReport(
        title=title,
        machine=machine,
        conditions=conditions,
        method=method,
        rows=tuple(rows),
        checks=checks,
        passed=measured and all(check.passed for check in checks),
        warnings=(*warnings_about(conditions, threads=plan.threads), *precision_warnings(rows, method)),
        scalings=scalings(rows, confidence=plan.confidence),
        limits=_limits(rows, progress),
    )


def _limits(rows: Sequence[ProfileRow], progress: Progress) -> tuple[MachineLimits, ...]:
    """Measure the machine where there are layers to hold against it; not for a number of threads that nobody named."""
    counts = sorted({row.threads for row in rows if row.layers is not None and row.threads})
    if not counts:
        return ()
    with progress.stage("measure the machine's limits", total=len(counts)) as advance:
        found = []
        for threads in counts:
            found.append(measure_limits(threads))
            advance()
    return tuple(found)


def measure_group(
    group: Sequence[Measurement],
    plan: MeasurementPlan,
    *,
    seconds: float,
    block: Callable[..., None],
    progress: Progress,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Make as many blocks as the plan says, or as the precision needs and the time allows.

    Args:
        group: What is compared.
        plan: How.
        seconds: Time for this group. Only one that was given by the plan's budget also limits the first few blocks.
        block: Makes one block; is given what to advance.
        progress: Told about every process.
        clock: Tells the seconds.
    """
    started, done = clock(), 0

    def room() -> int:
        """Return how many further blocks fit, if they take as long as those so far."""
        passed = clock() - started
        return int((seconds - passed) / (passed / done)) if passed > 0 else MOST_PROCESSES

    least = plan.processes or LEAST_PROCESSES
    with progress.stage(STAGE, total=least * len(group)) as advance:
        while done < least:
            if done and plan.budget_seconds is not None and room() < 1:
                advance((least - done) * len(group))
                return
            block(advance)
            done += 1
    if plan.processes is not None:
        return
    more = min(blocks_needed(group, plan) - done, room())
    if more > 0:
        with progress.stage(f"{STAGE}, for the precision", total=more * len(group)) as advance:
            for _ in range(more):
                if room() < 1:
                    break
                block(advance)
                done += 1


def blocks_needed(group: Sequence[Measurement], plan: MeasurementPlan) -> int:
    """Return how many blocks the precision needs, judged by those there are."""
    baseline = baseline_of(group, plan)
    others = [item for item in group if item is not baseline and comparable(item, baseline)]
    spreads = [log_ratios(item.rounds, baseline.rounds) for item in others]
    if not spreads:  # nothing to compare with: the medians themselves count
        spreads = [log_medians(item.rounds) for item in group if item.failure is None]
    target = plan.precision_target or PRECISION_TARGET
    return max(
        (
            processes_needed(logs, target=target, confidence=plan.confidence, most=MOST_PROCESSES)
            for logs in spreads
            if len(logs) > 1
        ),
        default=0,
    )


def _share_of_time(plan: MeasurementPlan, group: Sequence[Measurement], *, started: float, groups_left: int) -> float:
    if plan.budget_seconds is None:
        return SECONDS_PER_ROW * len(group)
    return max(0.0, plan.budget_seconds - (time.monotonic() - started)) / groups_left


def _check(candidates: Sequence[Candidate], plan: MeasurementPlan) -> None:
    labels = [candidate.label for candidate in candidates]
    if not labels:
        raise UsageError(
            "There is nothing to measure.",
            found="no candidate",
            expected="at least one",
            next_step="name a model and a backend",
        )
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise UsageError(
            "Two candidates have the same label.", found=", ".join(twice), expected="a label of its own for each"
        )
    if plan.baseline is not None and plan.baseline not in labels:
        raise UsageError(
            f"The baseline '{plan.baseline}' is not among the candidates.",
            found=plan.baseline,
            expected=f"one of: {', '.join(labels)}",
        )
    known = registry.available()
    for candidate in candidates:
        if candidate.backend not in known:
            registry.factory(candidate.backend)  # raises, with a suggestion


def _common_image_size(described: Sequence[Described | None]) -> tuple[int, int] | None:
    """Return the first fixed image size, so that models that take any size are compared at the same one."""
    return next((size for known in described if (size := _own_image_size(known)) is not None), None)


def _own_image_size(known: Described | None) -> tuple[int, int] | None:
    return fixed_image_size(known.artifact.signature) if known is not None else None


def _checks(rows: Sequence[ProfileRow], budget: LatencyBudget | None) -> tuple[BudgetCheck, ...]:
    if budget is None:
        return ()
    return tuple(
        BudgetCheck(
            label=row.label,
            batch=row.batch,
            threads=row.threads,
            found_p50_ms=row.latency.p50 if row.latency is not None else None,
            limit_p50_ms=budget.max_p50_ms,
            passed=row.latency is not None and row.latency.p50 <= budget.max_p50_ms,
            image_size=row.image_size,
        )
        for row in rows
        if row.outcome is not Outcome.NOT_RUN
    )
