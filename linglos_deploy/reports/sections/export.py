"""How an export looks: what was made and how good it is, then every report that it ran."""

from __future__ import annotations

from linglos_deploy.reports.document import Cell, Check, Column, Section, Table, Tone, sections_of
from linglos_deploy.reports.export import AccuracyVerdict, EngineOutcome, ExportReport
from linglos_deploy.reports.numbers import file_size


@sections_of.register
def export_sections(report: ExportReport) -> tuple[Section, ...]:
    """The export itself, parity of every graph, and latency."""
    accuracy = report.accuracy
    overview = Section(
        title=f"Export of {report.name}",
        passed=report.passed,
        summary=" ".join(
            part
            for part in (
                f"{report.parameters / 1e6:.2f} million parameters, exported as {report.precision}.",
                report.advice,
            )
            if part
        ),
        notes=(
            *(verdict.sentence for verdict in report.targets),
            *tuple(f"next: {command}" for command in report.next_commands),
        ),
        facts=(("bundle", report.bundle), ("precision", report.precision)),
        warnings=report.warnings,
        tables=(
            *((_accuracy_table(accuracy),) if accuracy is not None else ()),
            _graphs_table(report.graphs),
            _engines_table(report.engines),
            Table(
                title="Files that were not used",
                columns=(Column("file"), Column("reason", prose=True)),
                rows=tuple((Cell(name), Cell(reason)) for name, reason in report.skipped),
            ),
        ),
        checks=_accuracy_checks(accuracy),
    )
    parts: tuple[object, ...] = (*report.parity, *((report.profile,) if report.profile is not None else ()))
    return (overview, *(section for part in parts for section in sections_of(part)))


def _accuracy_table(verdict: AccuracyVerdict) -> Table:
    return Table(
        title="Top-1 on labelled images",
        columns=(Column("model"), Column("precision"), Column("top-1", True), Column("images", True)),
        rows=tuple(
            (Cell(row.model), Cell(row.precision), Cell(f"{row.top1:.2f} %"), Cell(f"{row.correct} / {row.count}"))
            for row in verdict.rows
        ),
    )


def _accuracy_checks(verdict: AccuracyVerdict | None) -> tuple[Check, ...]:
    if verdict is None or verdict.max_drop is None:
        return ()
    found = verdict.finding or f"{verdict.worst_drop:.2f} points"
    return (Check("loss of top-1", verdict.passed, found, f"at most {verdict.max_drop:.2f} points"),)


def _graphs_table(graphs: dict[str, int]) -> Table:
    return Table(
        title="Graphs",
        columns=(Column("file"), Column("size", True)),
        rows=tuple((Cell(name), Cell(file_size(size))) for name, size in graphs.items()),
    )


def _engines_table(engines: tuple[EngineOutcome, ...]) -> Table:
    return Table(
        title="Engines",
        columns=(
            Column("backend"),
            Column("engine"),
            Column("size", True),
            Column("build", True),
            Column("detail", prose=True),
        ),
        rows=tuple(
            (
                Cell(engine.backend),
                Cell(engine.file) if engine.file is not None else Cell("not built", Tone.MUTED),
                Cell(file_size(engine.bytes) if engine.file is not None else "–"),
                Cell(f"{engine.seconds:.1f} s" if engine.file is not None else "–"),
                Cell(engine.detail),
            )
            for engine in engines
        ),
    )
