"""From processes to the rows of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from linglos_deploy.profiling.blocks import Measurement, file_bytes
from linglos_deploy.profiling.distribution import describe_distribution
from linglos_deploy.profiling.plan import MeasurementPlan
from linglos_deploy.profiling.statistics import compare, summarize
from linglos_deploy.reports.profile import ColdStart, Outcome, ProfileRow


def rows_of(group: Sequence[Measurement], plan: MeasurementPlan) -> list[ProfileRow]:
    """Return a row for every candidate of a group, with its ratio to the baseline."""
    baseline = baseline_of(group, plan)
    rows = []
    for item in group:
        row = _row(item, plan)
        if item is not baseline and comparable(item, baseline):
            ratio = compare(
                item.rounds,
                baseline.rounds,
                label=baseline.candidate.label,
                confidence=plan.confidence,
                min_effect=plan.min_effect,
            )
            row = replace(row, ratio=ratio)
        rows.append(row)
    return rows


def baseline_of(group: Sequence[Measurement], plan: MeasurementPlan) -> Measurement:
    """Return what the others are compared with."""
    return next(item for item in group if plan.baseline in (None, item.candidate.label))


def comparable(item: Measurement, baseline: Measurement) -> bool:
    """Whether both were measured, on images of the same size."""
    if item.failure is not None or baseline.failure is not None or not item.processes or not baseline.processes:
        return False
    return item.processes[0].opened.image_size == baseline.processes[0].opened.image_size


def _row(item: Measurement, plan: MeasurementPlan) -> ProfileRow:
    known, opened = item.described, item.processes[0].opened if item.processes else None
    row = ProfileRow(
        label=item.candidate.label,
        backend=item.candidate.backend,
        artifact=item.candidate.model_name,
        digest=known.artifact.digest if known is not None else "",
        precision=known.precision if known is not None else "fp32",
        batch=item.batch,
        image_size=opened.image_size if opened is not None else item.image_size,
        threads=item.threads,
        outcome=Outcome.MEASURED,
        options=opened.options if opened is not None else {},
        notes=opened.notes if opened is not None else (),
        file_bytes=file_bytes(item.candidate.path),
    )
    if item.failure is not None:
        outcome = Outcome.NOT_RUN if item.failure.missing else Outcome.FAILED
        when = f"In process {len(item.processes) + 1}, after others had gone well: " if item.processes else ""
        return replace(row, outcome=outcome, reason=f"{when}{item.failure}")
    latency = summarize(item.rounds, confidence=plan.confidence)
    ended = [process.closed for process in item.processes if process.closed is not None]
    wall = sum(sum(samples) for rounds in item.rounds for samples in rounds)
    warmed = [process.warmed.steady for process in item.processes if process.warmed is not None]
    return replace(
        row,
        latency=latency,
        throughput=item.batch / latency.mean * 1e3,
        cold_start=ColdStart(
            open=median(process.opened.open_ms for process in item.processes),
            first_run=median(process.opened.first_run_ms for process in item.processes),
        ),
        peak_rss_bytes=max(closed.peak_rss_bytes for closed in ended),
        versions=ended[0].versions,
        layers=ended[0].layers,
        notes=(*row.notes, *describe_distribution(item.rounds)),
        cpu_use=sum(process.cpu_ms for process in item.processes) / wall if wall else None,
        steady=all(warmed) if warmed else None,
        samples_ms=tuple(tuple(tuple(samples) for samples in rounds) for rounds in item.rounds),
    )
