"""Measure latencies so that they can be compared: each model isolated, all in turns, ratios with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from linglos_deploy.artifacts import EngineArtifact, OnnxArtifact
from linglos_deploy.backends import registry
from linglos_deploy.backends.machine import describe_machine
from linglos_deploy.codec import to_builtins
from linglos_deploy.engines.record import read_record
from linglos_deploy.engines.served import tuned_shapes
from linglos_deploy.errors import LinglosError, UsageError
from linglos_deploy.profiling.describe import Described, describe
from linglos_deploy.profiling.inputs import fixed_image_size
from linglos_deploy.profiling.machine import this_machines_conditions, warn_if_busy
from linglos_deploy.profiling.messages import Closed, Opened, OpenRequest, Reply, Request, RoundRequest
from linglos_deploy.profiling.plan import Candidate, LatencyBudget, MeasurementPlan
from linglos_deploy.profiling.process import Worker, WorkerError, start_worker
from linglos_deploy.profiling.remarks import add_remarks, noise_warnings
from linglos_deploy.profiling.statistics import ratio_of_medians, summarize
from linglos_deploy.progress import SILENT, Advance, Progress
from linglos_deploy.reports.profile import (
    BudgetCheck,
    ColdStart,
    Method,
    Outcome,
    ProfileReport,
    ProfileRow,
)


def measure(
    candidates: Sequence[Candidate],
    plan: MeasurementPlan,
    *,
    budget: LatencyBudget | None = None,
    title: str = "Latency",
    progress: Progress = SILENT,
) -> ProfileReport:
    """Measure every candidate at every batch size and number of threads of the plan.

    Each row runs in a process of its own. Candidates of the same batch size and threads take turns, round by round
    (A B C A B C), so that a machine that gets slower gets slower for all of them. A candidate that crashes, hangs or
    cannot run here becomes a row that says so.

    Args:
        candidates: What to measure; labels must differ.
        plan: How.
        budget: The slowest acceptable median; the report's verdict.
        title: Of the report.
        progress: Told about every round.

    Raises:
        UsageError: There is no candidate, two have one label, or a backend or the baseline is unknown.
        ArtifactError: A model file is missing or damaged.
    """
    _check(candidates, plan)
    described = [None if candidate.path is None else describe(candidate.path) for candidate in candidates]
    if plan.image_size is None:
        plan = replace(plan, image_size=_common_image_size(described))
    machine, conditions = describe_machine(), this_machines_conditions()
    rows: list[ProfileRow] = []
    groups = [(batch, threads) for batch in plan.batch_sizes for threads in plan.threads]
    with progress.stage("measure latency", total=len(groups) * len(candidates) * (plan.rounds + 1)) as advance:
        for batch, threads in groups:
            group = [
                _Measurement(candidate, known, batch, threads)
                for candidate, known in zip(candidates, described, strict=True)
            ]
            _measure_group(group, plan, advance)
            rows += _with_ratios(group, plan)
    rows = add_remarks(rows, conditions)
    checks = _checks(rows, budget)
    return ProfileReport(
        title=title,
        machine=machine,
        conditions=conditions,
        method=Method(
            rounds=plan.rounds,
            min_runs=plan.min_runs,
            min_seconds=plan.min_seconds,
            warmup_runs=plan.warmup_runs,
            warmup_seconds=plan.warmup_seconds,
            seed=plan.seed,
            bootstrap=plan.bootstrap,
        ),
        rows=tuple(rows),
        checks=checks,
        passed=_passed(rows, checks, budget),
        warnings=(*warn_if_busy(conditions, cpus=machine.cpu_count), *noise_warnings(rows)),
    )


@dataclass(slots=True)
class _Measurement:
    """One row in the making."""

    candidate: Candidate
    described: Described | None
    batch: int
    threads: int
    worker: Worker | None = None
    opened: Opened | None = None
    closed: Closed | None = None
    rounds: list[list[float]] = field(default_factory=list)
    failure: WorkerError | None = None


def _check(candidates: Sequence[Candidate], plan: MeasurementPlan) -> None:
    labels = [candidate.label for candidate in candidates]
    if not labels:
        raise UsageError("There is nothing to measure.", next_step="name a model and a backend")
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise UsageError(
            "Two candidates have the same label.", found=", ".join(twice), expected="a label of its own for each"
        )
    if plan.baseline is not None and plan.baseline not in labels:
        raise UsageError(
            f"The baseline '{plan.baseline}' is not among the candidates.", expected=f"one of: {', '.join(labels)}"
        )
    known = registry.available()
    for candidate in candidates:
        if candidate.backend not in known:
            registry.factory(candidate.backend)  # raises, with a suggestion


def _shapes(
    artifact: OnnxArtifact | EngineArtifact | None, batch: int, plan: MeasurementPlan
) -> dict[str, tuple[int, ...]]:
    """Return the shapes that were asked for; an engine is measured at those it is tuned for where none were."""
    if not isinstance(artifact, EngineArtifact) or "" in plan.shapes:
        return dict(plan.shapes)
    record = read_record(artifact.path)
    tuned = tuned_shapes(record.signature, record.spec.profiles, batch=batch, image_size=plan.image_size)
    return {**tuned, **plan.shapes}


def _common_image_size(described: Sequence[Described | None]) -> tuple[int, int] | None:
    """Return the first fixed image size, so that models that take any size are compared at the same one."""
    for known in described:
        size = fixed_image_size(known.artifact.signature) if known is not None else None
        if size is not None:
            return size
    return None


def _measure_group(group: list[_Measurement], plan: MeasurementPlan, advance: Advance) -> None:
    with ExitStack() as stack:
        for item in group:  # one after the other, so that cold starts do not disturb each other
            _open(item, plan, stack)
            advance()
        for _ in range(plan.rounds):
            for item in group:
                _round(item, plan)
                advance()
        for item in group:
            _close(item, plan)


def _open(item: _Measurement, plan: MeasurementPlan, stack: ExitStack) -> None:
    artifact = item.described.artifact if item.described is not None else None
    request = OpenRequest(
        backend=item.candidate.backend,
        options=dict(item.candidate.options),
        threads=item.threads,
        onnx=artifact if isinstance(artifact, OnnxArtifact) else None,
        engine=artifact if isinstance(artifact, EngineArtifact) else None,
        source=None if item.candidate.source is None else to_builtins(item.candidate.source),
        batch=item.batch,
        image_size=plan.image_size,
        seed=plan.seed,
        operators=plan.operators,
        shapes=_shapes(artifact, item.batch, plan),
        data=None if plan.data is None else str(plan.data),
        device=item.candidate.device,
    )
    item.worker = stack.enter_context(start_worker())
    reply = _ask(item, Request(open=request), timeout=plan.timeout_seconds)
    if reply is not None:
        item.opened = reply.opened
        warmup = RoundRequest(runs=plan.warmup_runs, seconds=plan.warmup_seconds)
        _ask(item, Request(round=warmup), timeout=plan.warmup_seconds + plan.timeout_seconds)


def _round(item: _Measurement, plan: MeasurementPlan) -> None:
    request = RoundRequest(runs=math.ceil(plan.min_runs / plan.rounds), seconds=plan.min_seconds / plan.rounds)
    reply = _ask(item, Request(round=request), timeout=request.seconds + plan.timeout_seconds)
    if reply is not None:
        item.rounds.append(reply.samples_ms)


def _close(item: _Measurement, plan: MeasurementPlan) -> None:
    reply = _ask(item, Request(), timeout=plan.timeout_seconds)
    if reply is not None:
        item.closed = reply.closed


def _ask(item: _Measurement, request: Request, *, timeout: float) -> Reply | None:
    """Ask a worker that has not failed yet; a failure now is the result of this row."""
    if item.failure is not None or item.worker is None:
        return None
    try:
        return item.worker.ask(request, timeout=timeout)
    except WorkerError as failure:
        item.failure = failure
        item.worker.process.kill()
    except LinglosError as error:
        item.failure = WorkerError(f"Its answer cannot be read. {error}")
        item.worker.process.kill()
    return None


def _with_ratios(group: list[_Measurement], plan: MeasurementPlan) -> list[ProfileRow]:
    baseline = next(
        (item for item in group if plan.baseline in (None, item.candidate.label)),
    )
    rows = []
    for item in group:
        row = _row(item)
        if item is not baseline and _comparable(item, baseline):
            ratio = ratio_of_medians(
                item.rounds,
                baseline.rounds,
                label=baseline.candidate.label,
                confidence=plan.confidence,
                resamples=plan.bootstrap,
                seed=plan.seed,
            )
            row = replace(row, ratio=ratio)
        rows.append(row)
    return rows


def _comparable(item: _Measurement, baseline: _Measurement) -> bool:
    """Whether both were measured, on images of the same size."""
    if item.opened is None or baseline.opened is None or item.failure is not None or baseline.failure is not None:
        return False
    return item.opened.image_size == baseline.opened.image_size


def _row(item: _Measurement) -> ProfileRow:
    known, opened = item.described, item.opened
    row = ProfileRow(
        label=item.candidate.label,
        backend=item.candidate.backend,
        artifact=item.candidate.model_name,
        digest=known.artifact.digest if known is not None else "",
        precision=known.precision if known is not None else "fp32",
        batch=item.batch,
        image_size=opened.image_size if opened is not None else None,
        threads=item.threads,
        outcome=Outcome.MEASURED,
        options=opened.options if opened is not None else {},
        notes=opened.notes if opened is not None else (),
    )
    if item.failure is not None:
        outcome = Outcome.NOT_RUN if item.failure.missing else Outcome.FAILED
        return replace(row, outcome=outcome, reason=str(item.failure))
    assert opened is not None
    assert item.closed is not None
    latency = summarize(item.rounds)
    return replace(
        row,
        latency=latency,
        throughput=item.batch / latency.mean * 1e3,
        cold_start=ColdStart(open=opened.open_ms, first_run=opened.first_run_ms),
        peak_rss_bytes=item.closed.peak_rss_bytes,
        versions=item.closed.versions,
        operators=item.closed.operators,
    )


def _passed(rows: Sequence[ProfileRow], checks: Sequence[BudgetCheck], budget: LatencyBudget | None) -> bool:
    """Whether everything that can run here was measured, something was, and the budget is kept."""
    outcomes = {row.outcome for row in rows}
    measured = Outcome.MEASURED in outcomes and Outcome.FAILED not in outcomes
    return measured and (budget is None or (bool(checks) and all(check.passed for check in checks)))


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
        )
        for row in rows
        if row.outcome is not Outcome.NOT_RUN
    )
