"""How latency looks: charts, numbers, what could not be measured, and how it was done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from linglos_deploy.reports.document import Bar, BarChart, Cell, Check, Column, Section, Table, Tone, sections_of
from linglos_deploy.reports.numbers import file_size, significant
from linglos_deploy.reports.profile import BudgetCheck, OperatorTime, Outcome, ProfileReport, ProfileRow

_OPERATORS_SHOWN = 10


@sections_of.register
def profile_sections(report: ProfileReport) -> tuple[Section, ...]:
    """Latency: a chart for each batch size, the numbers, what could not be measured, and how it was done."""
    measured = [row for row in report.rows if row.outcome is Outcome.MEASURED]
    missing = [row for row in report.rows if row.outcome is not Outcome.MEASURED]
    checks = tuple(
        Check(
            name=f"p50 of {check.label}, batch {check.batch}{_threads_suffix(check.threads)}",
            passed=check.passed,
            found=f"{significant(check.found_p50_ms)} ms" if check.found_p50_ms is not None else "not measured",
            limit=f"at most {significant(check.limit_p50_ms)} ms",
        )
        for check in report.checks
    )
    if report.checks:  # what could not run here neither passes nor fails
        checks += tuple(
            Check(_row_name(row), None, found=_first_line(row.reason), limit="")
            for row in missing
            if row.outcome is Outcome.NOT_RUN
        )
    limit = report.checks[0].limit_p50_ms if report.checks else None
    tables = [_latency_table(measured), _cost_table(measured), *_operator_tables(measured), _missing_table(missing)]
    return (
        Section(
            title=report.title,
            passed=report.passed if report.checks else None,
            summary=" ".join([*_over_budget(report.checks), _profile_summary(measured)]),
            facts=_profile_facts(report),
            warnings=report.warnings,
            charts=_latency_charts(measured, limit),
            tables=tuple(table for table in tables if table is not None),
            notes=_profile_notes(report),
            checks=checks,
        ),
    )


def _over_budget(checks: Sequence[BudgetCheck]) -> list[str]:
    """Say which rows miss the budget, and by how much."""
    sentences = []
    for check in checks:
        row = f"{check.label}, batch {check.batch}{_threads_suffix(check.threads)}"
        if check.found_p50_ms is None:
            sentences.append(f"{row}: not measured.")
        elif not check.passed:
            found, limit = check.found_p50_ms, check.limit_p50_ms
            over = significant(found - limit)
            sentences.append(f"{row}: {significant(found)} ms, limit {significant(limit)} ms, {over} ms too slow.")
    return sentences


def _profile_summary(measured: Sequence[ProfileRow]) -> str:
    timed = [row for row in measured if row.latency is not None]
    if not timed:
        return "Nothing could be measured on this machine."
    sentences = []
    for batch, group in groupby(sorted(timed, key=lambda row: row.batch), key=lambda row: row.batch):
        best = min(group, key=_p50)
        rate = f"{significant(best.throughput or 0)} images/s"
        sentences.append(f"Fastest at batch {batch}: {best.label}, {significant(_p50(best))} ms, {rate}.")
    return " ".join(sentences)


def _profile_facts(report: ProfileReport) -> tuple[tuple[str, str], ...]:
    machine, conditions, method = report.machine, report.conditions, report.method
    threads = sorted({row.threads for row in report.rows})
    sizes = sorted({row.image_size for row in report.rows if row.image_size is not None})
    versions = {name: version for row in report.rows for name, version in row.versions.items()}
    facts = (
        ("CPU", f"{machine.cpu}; {machine.cpu_count} usable CPUs, {conditions.physical_cores or '?'} cores"),
        ("instructions", ", ".join(conditions.instructions) or "unknown"),
        ("GPU", ", ".join(gpu.name for gpu in machine.gpus)),
        ("memory", file_size(machine.memory_bytes) if machine.memory_bytes else ""),
        ("system", f"{machine.system}, Python {machine.python}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("image size", ", ".join(f"{height} × {width}" for height, width in sizes)),
        ("threads", ", ".join("backend's choice" if count == 0 else str(count) for count in threads)),
        (
            "method",
            f"{method.rounds} rounds in turns, each model in a process of its own, spinning "
            f"{'on' if conditions.spinning else 'off'}; at least {method.min_runs} runs and "
            f"{method.min_seconds:g} s a row after warm-up; seed {method.seed}",
        ),
        ("load average before", f"{conditions.load_before:.2f}"),
    )
    return tuple((name, value) for name, value in facts if value)


def _latency_charts(measured: Sequence[ProfileRow], limit: float | None) -> tuple[BarChart, ...]:
    def group_of(row: ProfileRow) -> tuple[int, int]:
        return row.batch, row.threads

    charts = []
    for (batch, threads), group in groupby(sorted(measured, key=group_of), key=group_of):
        bars = tuple(
            Bar(
                label=row.label,
                value=row.latency.p50,
                text=significant(row.latency.p50),
                reach=row.latency.p90,
                tone=Tone.BAD if limit is not None and row.latency.p50 > limit else Tone.NEUTRAL,
            )
            for row in group
            if row.latency is not None
        )
        charts.append(
            BarChart(
                title=f"Latency at batch {batch}{_threads_suffix(threads)} (ms)",
                caption="Bar and number: median. Thin line: up to the 90th percentile."
                + (" Vertical line: the budget." if limit is not None else ""),
                bars=bars,
                limit=limit,
            )
        )
    return tuple(charts)


def _latency_table(measured: Sequence[ProfileRow]) -> Table | None:
    if not measured:
        return None
    many_threads = len({row.threads for row in measured}) > 1
    columns: list[tuple[Column, Callable[[ProfileRow], Cell]]] = [
        (Column("candidate"), lambda row: Cell(row.label)),
        (Column("precision", minor=True), lambda row: Cell(_precision(row))),
        (Column("batch", True), lambda row: Cell(str(row.batch))),
        *([(Column("threads", True), lambda row: Cell(str(row.threads)))] if many_threads else []),
        (Column("p50", True), lambda row: Cell(significant(_p50(row)))),
        (Column("p90", True, minor=True), lambda row: Cell(significant(row.latency.p90 if row.latency else 0))),
        (Column("p99", True, minor=True), lambda row: Cell(significant(row.latency.p99 if row.latency else 0))),
        (Column("mean", True, minor=True), lambda row: Cell(significant(row.latency.mean if row.latency else 0))),
        (Column("min", True, minor=True), lambda row: Cell(significant(row.latency.minimum if row.latency else 0))),
        (Column("CV", True, minor=True), lambda row: Cell(f"{row.latency.variation:.1%}" if row.latency else "")),
        (Column("images/s", True, minor=True), lambda row: Cell(significant(row.throughput or 0))),
        (Column("vs baseline", True), _ratio_cell),
    ]
    return Table(
        title="Latency of one run (ms)",
        columns=tuple(column for column, _ in columns),
        rows=tuple(tuple(cell(row) for _, cell in columns) for row in measured),
    )


def _cost_table(measured: Sequence[ProfileRow]) -> Table | None:
    rows = tuple(
        (
            Cell(row.label),
            Cell(str(row.batch), Tone.NEUTRAL),
            Cell(significant(row.cold_start.open)),
            Cell(significant(row.cold_start.first_run)),
            Cell(file_size(row.peak_rss_bytes or 0)),
            Cell(", ".join(f"{name}={value}" for name, value in row.options.items()) or "–", Tone.MUTED),
        )
        for row in measured
        if row.cold_start is not None
    )
    columns = (
        Column("candidate"),
        Column("batch", True),
        Column("open ms", True),
        Column("first run ms", True),
        Column("peak memory", True),
        Column("options", minor=True),
    )
    return Table("First answer and memory", columns, rows) if rows else None


def _operator_tables(measured: Sequence[ProfileRow]) -> list[Table]:
    columns = (Column("operator"), Column("calls", True), Column("ms", True), Column("share", True))
    return [
        Table(
            title=f"Time per operator: {_row_name(row)}",
            columns=columns,
            rows=tuple(
                (
                    Cell(entry.operator),
                    Cell(str(entry.calls)),
                    Cell(significant(entry.milliseconds)),
                    Cell(f"{entry.share:.1%}"),
                )
                for entry in _with_others(row.operators)
            ),
        )
        for row in measured
        if row.operators
    ]


def _with_others(operators: Sequence[OperatorTime]) -> list[OperatorTime]:
    """Return the largest entries, and one for all the rest."""
    shown, rest = list(operators[:_OPERATORS_SHOWN]), operators[_OPERATORS_SHOWN:]
    if rest:
        shown.append(
            OperatorTime(
                operator=f"{len(rest)} others",
                calls=sum(entry.calls for entry in rest),
                milliseconds=sum(entry.milliseconds for entry in rest),
                share=sum(entry.share for entry in rest),
            )
        )
    return shown


def _missing_table(missing: Sequence[ProfileRow]) -> Table | None:
    if not missing:
        return None
    return Table(
        title="Not measured",
        columns=(Column("candidate"), Column("batch", True), Column("outcome"), Column("reason", prose=True)),
        rows=tuple(
            (
                Cell(row.label),
                Cell(str(row.batch)),
                Cell("failed", Tone.BAD) if row.outcome is Outcome.FAILED else Cell("not run", Tone.MUTED),
                Cell(" ".join(row.reason.split())),
            )
            for row in missing
        ),
    )


def _profile_notes(report: ProfileReport) -> tuple[str, ...]:
    notes = [f"{_row_name(row)}: {note}" for row in report.rows for note in row.notes]
    fewest = min((row.latency.runs for row in report.rows if row.latency is not None), default=100)
    if fewest < 100:
        notes.append(f"p99 of fewer than 100 runs (here from {fewest}) says little more than the slowest one.")
    if any(row.ratio is not None for row in report.rows):
        ratio = next(row.ratio for row in report.rows if row.ratio is not None)
        notes.append(
            f"vs baseline: median over the median of {ratio.baseline} in the same rounds, with a "
            f"{ratio.confidence:.0%} bootstrap interval; below 1 is faster."
        )
    return tuple(notes)


def _ratio_cell(row: ProfileRow) -> Cell:
    if row.ratio is None:
        return Cell("–", Tone.MUTED)
    text = f"{row.ratio.value:.2f} [{row.ratio.low:.2f}, {row.ratio.high:.2f}]"
    if row.ratio.high < 1:
        return Cell(text, Tone.GOOD)
    return Cell(text, Tone.BAD if row.ratio.low > 1 else Tone.NEUTRAL)


def _precision(row: ProfileRow) -> str:
    """Return the precision, for INT8 with the mode in which its arithmetic was done."""
    mode = row.options.get("int8") if row.precision.startswith("int8") else None
    return f"{row.precision} ({mode})" if mode else row.precision or "–"


def _p50(row: ProfileRow) -> float:
    return row.latency.p50 if row.latency is not None else float("inf")


def _row_name(row: ProfileRow) -> str:
    return f"{row.label}, batch {row.batch}{_threads_suffix(row.threads)}"


def _threads_suffix(threads: int) -> str:
    if threads == 0:
        return ""
    return f", {threads} thread{'s' if threads > 1 else ''}"


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""
