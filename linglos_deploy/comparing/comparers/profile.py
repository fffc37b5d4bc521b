"""Two reports of latency that were measured at different times, on the same machine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from linglos_deploy.codec import read_json
from linglos_deploy.comparing.tolerances import Tolerances
from linglos_deploy.errors import UsageError
from linglos_deploy.profiling.statistics import FEWEST_PROCESSES, ratio_of_reports
from linglos_deploy.reports.comparison import Change, ComparisonReport
from linglos_deploy.reports.numbers import significant
from linglos_deploy.reports.profile import ProfileReport, ProfileRow

OBEYS = ("max_regression",)


def compare_profile(old: Path, new: Path, tolerances: Tolerances) -> ComparisonReport:
    """Compare the latency of every candidate that is in both.

    The interval of a ratio is Welch's over the processes of both. It knows nothing of what has changed on the machine
    between the two, so that is said with every comparison.

    Raises:
        UsageError: The two were measured on different processors, or have no candidate in common.
        ArtifactError: A report is damaged.
    """
    before, after = read_json(ProfileReport, old), read_json(ProfileReport, new)
    if before.machine.cpu != after.machine.cpu:
        raise UsageError(
            "The two were measured on different machines.",
            found=f"{before.machine.cpu}; {after.machine.cpu}",
            expected="the same processor",
            next_step="measure both models here: linglos-deploy profile OLD NEW --gate 5%",
        )
    partners = {_key(row): row for row in after.rows}
    if not any(_key(row) in partners for row in before.rows):
        raise UsageError(
            "The two have no candidate in common.",
            found=f"{_labels(before)}; {_labels(after)}",
            expected="the same labels, batch sizes, threads and image sizes",
            next_step="measure the new one with the options of the old one",
        )
    changes = [
        change
        for row in before.rows
        for change in _changes(row, partners.get(_key(row)), tolerances.max_regression, before.method.confidence)
    ]
    known = {_key(row) for row in before.rows}
    changes += [Change(_name(row), "latency", "–", _median(row)) for row in after.rows if _key(row) not in known]
    warnings = [
        "Measured one after the other: what has changed on the machine in between looks like a change of the models. "
        "'linglos-deploy profile OLD NEW --gate 5%' measures both in turns, and confirms what it finds.",
        *(f"old: {warning}" for warning in before.warnings),
        *(f"new: {warning}" for warning in after.warnings),
    ]
    return ComparisonReport.of("profile", str(old), str(new), tuple(changes), tuple(warnings))


def _changes(old: ProfileRow, new: ProfileRow | None, limit: float | None, confidence: float) -> Iterator[Change]:
    if old.latency is None:
        return  # nothing was known
    if new is None or new.latency is None:
        why = "not there" if new is None else new.reason.splitlines()[0]
        yield Change(_name(old), "latency", _median(old), why, "still measured", passed=False)
        return
    ratio = ratio_of_reports(new.samples_ms, old.samples_ms, confidence=confidence)
    values = old.latency.p50, new.latency.p50
    if ratio is None:
        allowed = f"cannot tell: an interval needs {FEWEST_PROCESSES} processes in each report"
        undecided = limit is not None
        yield Change(_name(old), "latency", _median(old), _median(new), allowed, None, *values, undecided=undecided)
        return
    found = f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}] times"
    if limit is None or math.isinf(limit):
        yield Change(_name(old), "latency", _median(old), f"{_median(new)}, {found}", "", None, *values)
        return
    passed = False if ratio.low > 1 + limit else True if ratio.high <= 1 + limit else None
    allowed = f"at most {1 + limit:.3g} times"
    if passed is None:
        allowed = f"cannot tell whether it is {allowed}: the interval holds the limit"
    shown = f"{_median(new)}, {found}"
    yield Change(_name(old), "latency", _median(old), shown, allowed, passed, *values, undecided=passed is None)


def _key(row: ProfileRow) -> tuple[object, ...]:
    return row.label, row.backend, row.batch, row.threads, row.image_size


def _name(row: ProfileRow) -> str:
    size = f", {row.image_size[0]} × {row.image_size[1]}" if row.image_size is not None else ""
    return f"{row.label}, batch {row.batch}{size}, {row.threads or 'its choice of'} threads"


def _median(row: ProfileRow) -> str:
    return f"{significant(row.latency.p50)} ms" if row.latency is not None else "not measured"


def _labels(report: ProfileReport) -> str:
    return ", ".join(_name(row) for row in report.rows)
