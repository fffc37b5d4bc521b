"""How an evaluation looks: every graph with its interval, and what it loses against float32."""

from __future__ import annotations

from linglos_deploy.reports.document import Cell, Check, Column, Section, Table, sections_of
from linglos_deploy.reports.evaluation import EvaluationReport, GraphScore, Share


@sections_of.register
def evaluation_sections(report: EvaluationReport) -> tuple[Section, ...]:
    """One section."""
    asked = report.max_drop is not None
    return (
        Section(
            title=f"{report.metric} of {report.bundle}",
            passed=report.passed if asked else None,
            summary=f"{report.count} pictures, task {report.task}; intervals hold 95 % of resampled sets of pictures.",
            warnings=report.warnings,
            tables=(_table(report),),
            checks=tuple(_check(score, report) for score in report.scores[1:]) if asked else (),
        ),
    )


def _table(report: EvaluationReport) -> Table:
    paired = any(score.mcnemar is not None for score in report.scores)
    columns = [
        Column("graph"),
        Column("precision", minor=True),
        Column(report.metric, numeric=True),
        Column("interval", numeric=True),
        Column("change", numeric=True),
        Column("interval of the change", numeric=True, minor=True),
    ]
    columns += [Column("alike", numeric=True, minor=True), Column("McNemar p", numeric=True)] if paired else []
    return Table(f"{report.metric}, in percent", tuple(columns), tuple(_row(it, paired=paired) for it in report.scores))


def _row(score: GraphScore, *, paired: bool) -> tuple[Cell, ...]:
    change = score.change
    cells = [
        score.graph,
        score.precision,
        f"{100 * score.score.value:.2f}",
        _range(score.score),
        "" if change is None else f"{100 * change.value:+.2f}",
        "" if change is None else _range(change),
    ]
    if paired:
        cells.append("" if score.agreement is None else f"{100 * score.agreement:.2f}")
        cells.append("" if score.mcnemar is None else f"{score.mcnemar:.3g}")
    return tuple(Cell(text) for text in cells)


def _range(share: Share) -> str:
    return f"{100 * share.low:.2f} … {100 * share.high:.2f}"


def _check(score: GraphScore, report: EvaluationReport) -> Check:
    assert score.change is not None
    assert report.max_drop is not None
    loss = -100 * score.change.value
    return Check(
        f"loss of {report.metric}, {score.graph}",
        loss <= report.max_drop + 1e-9,
        f"{loss:.2f} points",
        f"at most {report.max_drop:g} points",
    )
