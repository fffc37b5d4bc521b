"""Is a new model slower than an old one by more than it may be? Both in one job; a finding needs a second one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from linglos_deploy.errors import UsageError
from linglos_deploy.profiling.measure import measure
from linglos_deploy.profiling.plan import Candidate, LatencyBudget, MeasurementPlan
from linglos_deploy.profiling.statistics import compare
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.reports.profile import GateCheck, GateOutcome, Outcome, ProfileReport, ProfileRow, Ratio


def measure_with_gate(
    models: Sequence[Sequence[Candidate]],
    plan: MeasurementPlan,
    *,
    limit: float,
    budget: LatencyBudget | None = None,
    progress: Progress = SILENT,
) -> ProfileReport:
    """Measure an old model and new ones in the same blocks, and judge each new one against its counterpart.

    A model that seems to be slower than it may be is measured a second time, together with its counterpart; only if
    that confirms the finding, it fails. Where the interval holds the limit, nobody can tell.

    Args:
        models: What each path stands for: the old one first.
        plan: How to measure.
        limit: Largest accepted loss of speed, relative.
        budget: The slowest acceptable median.
        progress: Told about every process.

    Raises:
        UsageError: There is no new model, or one without a counterpart; see also :func:`.measure.measure`.
    """
    pairs = counterparts(models)
    candidates = {candidate.label: candidate for group in models for candidate in group}
    report = measure([*candidates.values()], plan, budget=budget, progress=progress)
    checks = judge(report, pairs, limit)
    suspects = [check for check in checks if check.outcome is GateOutcome.REGRESSED]
    if suspects:
        labels = {label for check in suspects for label in (check.baseline, check.label)}
        again = measure(
            [candidate for label, candidate in candidates.items() if label in labels],
            replace(
                plan,
                batch_sizes=tuple(dict.fromkeys(check.batch for check in suspects)),
                image_sizes=tuple(dict.fromkeys(check.image_size for check in suspects if check.image_size))
                if plan.image_sizes
                else (),
                threads=tuple(dict.fromkeys(check.threads for check in suspects)),
                seed=None if plan.seed is None else plan.seed + 1,
                baseline=None,
            ),
            progress=progress,
        )
        confirmations = {
            _key(check): check for check in judge(again, [pair for pair in pairs if set(pair) <= labels], limit)
        }
        checks = tuple(
            confirm(check, confirmations[_key(check)]) if check.outcome is GateOutcome.REGRESSED else check
            for check in checks
        )
    held = all(check.outcome is GateOutcome.PASSED for check in checks)
    return replace(report, gates=checks, passed=report.passed and held)


def counterparts(models: Sequence[Sequence[Candidate]]) -> list[tuple[str, str]]:
    """Return the labels of each new candidate's counterpart among the old ones, and its own.

    The counterpart has the same backend, and the same file name where there are several.

    Raises:
        UsageError: There is no new model, or one without a counterpart.
    """
    if len(models) < 2:
        raise UsageError(
            "--gate holds new models against an old one.",
            found=f"{len(models)} model",
            expected="the old one first, then at least one new one",
            next_step="linglos-deploy profile old.onnx new.onnx --gate 5%",
        )
    pairs = []
    for group in models[1:]:
        for new in group:
            there = [old for old in models[0] if old.backend == new.backend]
            named = [old for old in there if old.model_name == new.model_name]
            if len(there) != 1 and len(named) != 1:
                raise UsageError(
                    f"'{new.label}' has no counterpart in the first model.",
                    found=", ".join(old.label for old in models[0]),
                    expected=f"one for the backend '{new.backend}', or one called '{new.model_name}'",
                    next_step="name the files that belong together: profile old/model.onnx new/model.onnx --gate 5%",
                )
            pairs.append(((named if len(named) == 1 else there)[0].label, new.label))
    return pairs


def judge(report: ProfileReport, pairs: Sequence[tuple[str, str]], limit: float) -> tuple[GateCheck, ...]:
    """Hold each new candidate of a report against its counterpart."""
    checks = []
    for old, new in pairs:
        for row in report.rows:
            if row.label == new:
                other = next((other for other in report.rows if other.label == old and _at(other) == _at(row)), None)
                ratio = None if other is None else _ratio(row, other, report)
                outcome = outcome_of(ratio, limit)
                check = GateCheck(new, old, row.batch, row.threads, limit, ratio, outcome, image_size=row.image_size)
                checks.append(check)
    return tuple(checks)


def _at(row: ProfileRow) -> tuple[object, ...]:
    return row.batch, row.threads, row.image_size


def _key(check: GateCheck) -> tuple[object, ...]:
    return check.label, check.batch, check.threads, check.image_size


def outcome_of(ratio: Ratio | None, limit: float) -> GateOutcome:
    """Judge a ratio: only an interval on one side of the limit decides."""
    if ratio is None or ratio.low is None or ratio.high is None:
        return GateOutcome.CANNOT_TELL
    if ratio.low > 1 + limit:
        return GateOutcome.REGRESSED
    return GateOutcome.PASSED if ratio.high <= 1 + limit else GateOutcome.CANNOT_TELL


def confirm(first: GateCheck, second: GateCheck) -> GateCheck:
    """Keep a finding that a second measurement confirms; else nobody can tell."""
    confirmed = second.outcome is GateOutcome.REGRESSED
    return replace(first, second=second.ratio, outcome=GateOutcome.REGRESSED if confirmed else GateOutcome.CANNOT_TELL)


def _ratio(row: ProfileRow, other: ProfileRow, report: ProfileReport) -> Ratio | None:
    measured = row.outcome is Outcome.MEASURED and other.outcome is Outcome.MEASURED
    if not measured:
        return None
    return compare(
        row.samples_ms,
        other.samples_ms,
        label=other.label,
        confidence=report.method.confidence,
        min_effect=report.method.min_effect,
    )
