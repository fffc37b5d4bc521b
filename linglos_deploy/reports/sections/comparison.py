"""How a comparison looks: what became worse than it may be, everything that was judged, and what else has changed."""

from __future__ import annotations

from collections.abc import Sequence

from linglos_deploy.reports.comparison import Change, ComparisonReport
from linglos_deploy.reports.document import Cell, Check, Column, Section, Table, Tone, sections_of

_TONES = {True: Tone.GOOD, False: Tone.BAD, None: Tone.NEUTRAL}


@sections_of.register
def comparison_sections(report: ComparisonReport) -> tuple[Section, ...]:
    """One section; its checks are what was judged."""
    judged = [change for change in report.changes if change.passed is not None]
    told = [change for change in report.changes if change.passed is None and not change.undecided]
    unknown = [change for change in report.changes if change.undecided]
    worse = [change for change in judged if not change.passed]
    return (
        Section(
            title=f"Comparison of {report.new} with {report.old}",
            passed=None if report.undecided else report.passed,
            summary=_summary(worse, judged, told, unknown),
            facts=(("kind", report.kind), ("old", report.old), ("new", report.new)),
            warnings=report.warnings,
            tables=tuple(
                table
                for table in (
                    _judged_table("Worse than allowed", worse),
                    _judged_table("Cannot tell", unknown),
                    _judged_table("Within what is allowed", [change for change in judged if change.passed], first=8),
                    _told_table(told),
                )
                if table.rows
            ),
            checks=tuple(
                Check(f"{change.subject}: {change.measure}", change.passed, _step(change), change.allowed)
                for change in (*judged, *unknown)
            ),
        ),
    )


def _summary(
    worse: Sequence[Change], judged: Sequence[Change], told: Sequence[Change], unknown: Sequence[Change]
) -> str:
    held = f"{len(worse)} of {len(judged)} are worse than allowed" if worse else f"none of {len(judged)} is worse"
    if unknown:
        held += f"; {len(unknown)} cannot be told"
    return f"{held}; {len(told)} other changes." if told else f"{held}."


def _judged_table(title: str, changes: Sequence[Change], *, first: int | None = None) -> Table:
    columns = (
        Column("what"),
        Column("measure"),
        Column("old", numeric=True),
        Column("new", numeric=True),
        Column("allowed", prose=True),
    )
    return Table(
        title,
        columns,
        tuple(
            (
                Cell(change.subject),
                Cell(change.measure),
                Cell(change.old),
                Cell(change.new, _TONES[change.passed]),
                Cell(change.allowed),
            )
            for change in changes
        ),
        first=first,
    )


def _told_table(changes: Sequence[Change]) -> Table:
    return Table(
        "What else has changed",
        (Column("what"), Column("measure"), Column("old", prose=True), Column("new", prose=True)),
        tuple((Cell(change.subject), Cell(change.measure), Cell(change.old), Cell(change.new)) for change in changes),
        first=12,
    )


def _step(change: Change) -> str:
    return f"{change.new}, was {change.old}"
