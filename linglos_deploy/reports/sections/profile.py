"""How latency looks: charts, numbers, what could not be measured, and how it was done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from linglos_deploy.reports.document import Cell, Check, Column, Section, Table, Tone, sections_of
from linglos_deploy.reports.numbers import file_size, significant
from linglos_deploy.reports.profile import (
    FEWEST_SIZES,
    BudgetCheck,
    Conditions,
    Finding,
    GateCheck,
    GateOutcome,
    LayerProfile,
    LayerTime,
    MachineLimits,
    Method,
    Outcome,
    ProfileReport,
    ProfileRow,
    Ratio,
    Scaling,
    only_undecided,
    runs_needed,
)
from linglos_deploy.reports.sections.profile_charts import latency_charts, layer_charts, setting, size_text

_OPERATORS_SHOWN = 10
_LAYERS_SHOWN = 15


@sections_of.register
def profile_sections(report: ProfileReport) -> tuple[Section, ...]:
    """Latency: a chart for each batch size, the numbers, what could not be measured, and how it was done."""
    measured = [row for row in report.rows if row.outcome is Outcome.MEASURED]
    missing = [row for row in report.rows if row.outcome is not Outcome.MEASURED]
    checks = tuple(
        Check(
            name=f"p50 of {check.label}, {_at(check)}",
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
    tables = [
        _latency_table(measured),
        _scaling_table(report.scalings),
        _cost_table(measured),
        _missing_table(missing),
    ]
    return (
        Section(
            title=report.title,
            passed=_verdict(report),
            summary=" ".join(
                [
                    _threads_said(report),
                    *_over_budget(report.checks),
                    *map(_gate_said, report.gates),
                    *_not_measured(missing),
                    _profile_summary(measured),
                ]
            ),
            facts=_profile_facts(report),
            warnings=report.warnings,
            charts=latency_charts(measured, limit=limit),
            tables=tuple(table for table in tables if table is not None),
            notes=_profile_notes(report),
            checks=(*checks, *map(_gate_check, report.gates)),
        ),
        *_layer_sections(measured, report.limits),
    )


def _verdict(report: ProfileReport) -> bool | None:
    """Return the verdict; ``None`` where nothing was asked and everything measured, or where nobody can tell."""
    asked = report.checks or report.gates or any(row.outcome is not Outcome.MEASURED for row in report.rows)
    return None if not asked or only_undecided(report) else report.passed


def _gate_said(gate: GateCheck) -> str:
    limit = f"{gate.limit:.1%} more than {gate.baseline}"
    said = {
        GateOutcome.PASSED: f"{gate.label} takes at most {limit}.",
        GateOutcome.REGRESSED: f"{gate.label} takes more than {limit}, measured twice.",
        GateOutcome.CANNOT_TELL: f"Cannot tell whether {gate.label} takes at most {limit}{_why_not(gate)}.",
    }
    return said[gate.outcome]


def _why_not(gate: GateCheck) -> str:
    if gate.ratio is None:
        return ": one of them was not measured"
    if gate.second is not None:
        return ": a second measurement did not confirm that it does not"
    if gate.ratio.low is None:
        return ": there are too few processes for an interval"
    return ": the interval holds the limit"


def _gate_check(gate: GateCheck) -> Check:
    passed = {GateOutcome.PASSED: True, GateOutcome.REGRESSED: False, GateOutcome.CANNOT_TELL: None}
    found = "not measured"
    if gate.ratio is not None:
        found = " and ".join(_ratio_text(ratio) for ratio in (gate.ratio, gate.second) if ratio is not None)
    name = f"{gate.label} against {gate.baseline}, {_at(gate)}"
    return Check(name, passed[gate.outcome], found, f"at most {1 + gate.limit:.3g} times")


def _ratio_text(ratio: Ratio) -> str:
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.3f}"
    return f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"


def _threads_said(report: ProfileReport) -> str:
    """Say first what decides most about the numbers: how many threads a run had."""
    counts = sorted({row.threads for row in report.rows})
    said = " and ".join("each backend's own choice of" if count == 0 else str(count) for count in counts)
    cpus = report.conditions.usable_cpus
    offers = f"; this machine offers {cpus:g} CPUs" if cpus else ""
    same = ", the same for all" if len(report.rows) > 1 and 0 not in counts else ""
    return f"{said} {'thread' if counts == [1] else 'threads'} a run{same}{offers}."


def _over_budget(checks: Sequence[BudgetCheck]) -> list[str]:
    """Say which rows miss the budget, and by how much."""
    sentences = []
    for check in checks:
        row = f"{check.label}, {_at(check)}"
        if check.found_p50_ms is None:
            sentences.append(f"{row}: not measured.")
        elif not check.passed:
            found, limit = check.found_p50_ms, check.limit_p50_ms
            over = significant(found - limit)
            sentences.append(f"{row}: {significant(found)} ms, limit {significant(limit)} ms, {over} ms too slow.")
    return sentences


def _not_measured(missing: Sequence[ProfileRow]) -> list[str]:
    if not missing:
        return []
    return [f"Not measured: {'; '.join(f'{_row_name(row)} ({_first_line(row.reason)})' for row in missing)}."]


def _profile_summary(measured: Sequence[ProfileRow]) -> str:
    timed = [row for row in measured if row.latency is not None]
    if not timed:
        return "Nothing could be measured on this machine."
    sentences = []
    many = len({row.image_size for row in timed}) > 1

    def sizes(row: ProfileRow) -> tuple[int, tuple[int, int]]:
        return row.batch, row.image_size or (0, 0) if many else (0, 0)

    for (batch, size), group in groupby(sorted(timed, key=sizes), key=sizes):
        best = min(group, key=_p50)
        rate = f"{significant(best.throughput or 0)} images/s"
        at = f"batch {batch}, {size_text(size)}" if many else f"batch {batch}"
        sentences.append(f"Fastest at {at}: {best.label}, {significant(_p50(best))} ms, {rate}.")
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
        ("image size", ", ".join(map(size_text, sizes))),
        ("threads", ", ".join("backend's choice" if count == 0 else str(count) for count in threads)),
        ("method", _method(method, conditions)),
        ("stopping", _stopping(method)),
        ("load average before", f"{conditions.load_before:.2f}"),
        ("quota", f"{conditions.quota_cpus:g} CPUs" if conditions.quota_cpus is not None else ""),
        ("clock", _clock(conditions)),
        ("two threads a core", {True: "yes", False: "no", None: ""}[conditions.smt]),
        ("memory nodes", str(conditions.numa_nodes) if conditions.numa_nodes > 1 else ""),
        ("power mode", conditions.power_mode),
        ("throttled", _throttled(conditions)),
    )
    return tuple((name, value) for name, value in facts if value)


def _method(method: Method, conditions: Conditions) -> str:
    return (
        f"fresh processes in blocks, started and timed in an order drawn by lot (seed {method.seed}); "
        f"{method.rounds} turns of a process, together at least {method.min_runs} runs and {method.min_seconds:g} s "
        f"after warm-up until steady; spinning {'on' if conditions.spinning else 'off'}"
    )


def _stopping(method: Method) -> str:
    took = f"; took {method.seconds:.0f} s"
    if method.processes is not None:
        return f"{method.processes} processes of each candidate, as asked for{took}"
    limit = f" within {method.budget_seconds:g} s" if method.budget_seconds is not None else ""
    return f"as many processes as ±{method.precision_target or 0:.1%} needs{limit}{took}"


def _clock(conditions: Conditions) -> str:
    boost = {True: "boost on", False: "boost off", None: ""}[conditions.boost]
    governor = f"governor {conditions.governor}" if conditions.governor else ""
    return ", ".join(part for part in (governor, boost) if part)


def _throttled(conditions: Conditions) -> str:
    counts = {"for heat": conditions.thermal_throttles, "by the quota": conditions.quota_throttles}
    return ", ".join(f"{count} times {why}" for why, count in counts.items() if count is not None)


def _latency_table(measured: Sequence[ProfileRow]) -> Table | None:
    if not measured:
        return None
    many_threads = len({row.threads for row in measured}) > 1
    many_sizes = len({row.image_size for row in measured}) > 1
    columns: list[tuple[Column, Callable[[ProfileRow], Cell]]] = [
        (Column("candidate"), lambda row: Cell(row.label)),
        (Column("precision", minor=True), lambda row: Cell(_precision(row))),
        (Column("batch", True), lambda row: Cell(str(row.batch))),
        *([(Column("size", True), lambda row: Cell(_size(row)))] if many_sizes else []),
        *([(Column("threads", True), lambda row: Cell(str(row.threads)))] if many_threads else []),
        (Column("p50", True), lambda row: Cell(significant(_p50(row)))),
        (Column("95 % interval", True, minor=True), _median_interval),
        (Column("p90", True, minor=True), lambda row: _percentile(row, 0.9)),
        (Column("p99", True, minor=True), lambda row: _percentile(row, 0.99)),
        (Column("mean", True, minor=True), lambda row: Cell(significant(row.latency.mean if row.latency else 0))),
        (Column("min", True, minor=True), lambda row: Cell(significant(row.latency.minimum if row.latency else 0))),
        (Column("CV", True, minor=True), lambda row: Cell(f"{row.latency.variation:.1%}" if row.latency else "")),
        (Column("images/s", True, minor=True), lambda row: Cell(significant(row.throughput or 0))),
        (Column("runs", True, minor=True), lambda row: Cell(str(row.latency.runs) if row.latency else "")),
        *([(Column("vs baseline", True), _ratio_cell)] if any(row.ratio for row in measured) else []),
    ]
    return Table(
        title="Latency of one run (ms)",
        columns=tuple(column for column, _ in columns),
        rows=tuple(tuple(cell(row) for _, cell in columns) for row in measured),
    )


def _median_interval(row: ProfileRow) -> Cell:
    latency = row.latency
    if latency is None or latency.low is None or latency.high is None:
        return Cell("needs more processes", Tone.MUTED)
    return Cell(f"{significant(latency.low)} – {significant(latency.high)}")


def _percentile(row: ProfileRow, quantile: float) -> Cell:
    value = None if row.latency is None else {0.9: row.latency.p90, 0.99: row.latency.p99}[quantile]
    return Cell(f"needs {runs_needed(quantile)} runs", Tone.MUTED) if value is None else Cell(significant(value))


def _size(row: ProfileRow) -> str:
    return size_text(row.image_size) if row.image_size is not None else "–"


def _scaling_table(found: Sequence[Scaling]) -> Table | None:
    if not found:
        return None
    return Table(
        title="How latency grows",
        columns=(
            Column("candidate"),
            Column("with"),
            Column("at", minor=True),
            Column("exponent", True),
            Column("from", True),
        ),
        rows=tuple(
            (
                Cell(each.label),
                Cell(str(each.against)),
                Cell(setting(batch=each.batch, image_size=each.image_size, threads=each.threads)),
                _exponent(each),
                Cell(f"{each.points} sizes"),
            )
            for each in found
        ),
    )


def _exponent(scaling: Scaling) -> Cell:
    if scaling.exponent is None:
        return Cell(f"needs {FEWEST_SIZES} sizes", Tone.MUTED)
    return Cell(f"{scaling.exponent:.2f} [{scaling.low:.2f}, {scaling.high:.2f}]")


def _cost_table(measured: Sequence[ProfileRow]) -> Table | None:
    many_sizes = len({row.image_size for row in measured}) > 1
    rows = tuple(
        (
            Cell(row.label),
            Cell(str(row.batch), Tone.NEUTRAL),
            *([Cell(_size(row))] if many_sizes else []),
            Cell(significant(row.cold_start.open)),
            Cell(significant(row.cold_start.first_run)),
            Cell(file_size(row.peak_rss_bytes or 0)),
            Cell(file_size(row.file_bytes) if row.file_bytes is not None else "–"),
            Cell(", ".join(f"{name}={value}" for name, value in row.options.items()) or "–", Tone.MUTED),
        )
        for row in measured
        if row.cold_start is not None
    )
    columns = (
        Column("candidate"),
        Column("batch", True),
        *([Column("size", True)] if many_sizes else []),
        Column("open ms", True),
        Column("first run ms", True),
        Column("peak memory", True),
        Column("file", True, minor=True),
        Column("options", minor=True),
    )
    return Table("First answer, memory and size", columns, rows) if rows else None


def _layer_sections(measured: Sequence[ProfileRow], limits: Sequence[MachineLimits]) -> list[Section]:
    of_threads = {limit.threads: limit for limit in limits}
    profiles = [(row, row.layers) for row in measured if row.layers is not None and row.layers.layers]
    if not profiles:
        return []
    return [
        Section(
            title="Where the time goes",
            summary="By the runtimes' own profilers, in runs of their own.",
            charts=layer_charts(measured),
            tables=(
                *(_operators_table(row, profile) for row, profile in profiles),
                *(
                    table
                    for row, profile in profiles
                    if row.threads in of_threads
                    and (table := _gains_table(row, profile, of_threads[row.threads])) is not None
                ),
                *(_layers_table(row, profile) for row, profile in profiles),
            ),
            facts=tuple(
                (
                    f"limits of this machine, {limit.threads} thread{'s' if limit.threads > 1 else ''}",
                    f"{_flops(limit.macs)} GFLOP/s, {limit.bytes / 1e9:.1f} GB/s, measured with a matrix product in "
                    "float32 and a copy that no cache holds",
                )
                for limit in limits
            ),
            notes=tuple(
                f"{_row_name(row)}: its layers add up to {profile.accounted:.0%} of the "
                f"{significant(profile.latency_ms)} ms of a profiled run; the rest is spent between them."
                for row, profile in profiles
            ),
        )
    ]


def _operators_table(row: ProfileRow, profile: LayerProfile) -> Table:
    """Add up the layers of each operator type."""
    kinds: dict[str, list[LayerTime]] = {}
    for layer in profile.layers:
        kinds.setdefault(layer.operator, []).append(layer)
    ordered = sorted(kinds.items(), key=lambda kind: -_milliseconds(kind[1]))
    shown, rest = ordered[:_OPERATORS_SHOWN], ordered[_OPERATORS_SHOWN:]
    if rest:
        shown.append((f"{len(rest)} others", [layer for _, layers in rest for layer in layers]))
    return Table(
        title=f"Time per operator: {_row_name(row)}",
        columns=(Column("operator"), Column("calls", True), Column("ms", True), Column("share", True)),
        rows=tuple(
            (
                Cell(operator),
                Cell(str(len(layers))),
                Cell(significant(_milliseconds(layers))),
                Cell(f"{sum(layer.share for layer in layers):.1%}"),
            )
            for operator, layers in shown
        ),
    )


def _gains_table(row: ProfileRow, profile: LayerProfile, limit: MachineLimits) -> Table | None:
    """Hold each layer against what the machine can do, and begin with what could be gained."""
    found = [(layer, least) for layer in profile.layers if (least := limit.least_ms(layer)) is not None]
    if not found:
        return None
    columns = (
        Column("layer"),
        Column("ms", True),
        Column("GFLOP/s", True, minor=True),
        Column("GB/s", True, minor=True),
        Column("bound by", minor=True),
        Column("at least ms", True),
        Column("could gain ms", True),
    )
    rows = []
    for layer, least in sorted(found, key=lambda entry: entry[1] - entry[0].milliseconds):
        seconds = layer.milliseconds / 1e3
        by_products = (layer.macs or 0) / limit.macs > (layer.bytes or 0) / limit.bytes
        rows.append(
            (
                Cell(layer.layer),
                Cell(significant(layer.milliseconds)),
                Cell(_flops((layer.macs or 0) / seconds) if seconds else "–"),
                Cell(f"{(layer.bytes or 0) / seconds / 1e9:.1f}" if seconds else "–"),
                Cell("products" if by_products else "memory"),
                Cell(significant(least)),
                Cell(significant(max(0.0, layer.milliseconds - least))),
            )
        )
    return Table(
        title=f"What could be gained: {_row_name(row)}, {len(found)} of {len(profile.layers)} layers",
        columns=columns,
        rows=tuple(rows),
        first=_LAYERS_SHOWN,
        folded=True,
    )


def _flops(macs: float) -> str:
    """Return billions of operations a second: a multiplication and its addition are two."""
    return f"{2 * macs / 1e9:.1f}"


def _layers_table(row: ProfileRow, profile: LayerProfile) -> Table:
    columns = (
        Column("layer"),
        Column("module", minor=True),
        Column("operator", minor=True),
        Column("type", minor=True),
        Column("ms", True),
        Column("share", True),
    )
    return Table(
        title=f"Time per layer: {_row_name(row)}",
        columns=columns,
        rows=tuple(
            (
                Cell(layer.layer),
                Cell(layer.module),
                Cell(layer.operator),
                Cell(layer.dtype),
                Cell(significant(layer.milliseconds)),
                Cell(f"{layer.share:.1%}"),
            )
            for layer in sorted(profile.layers, key=lambda layer: -layer.milliseconds)
        ),
        first=_LAYERS_SHOWN,
        folded=True,
    )


def _milliseconds(layers: Sequence[LayerTime]) -> float:
    return sum(layer.milliseconds for layer in layers)


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
    if report.scalings:
        notes.append(
            "How latency grows: as this power, fitted to the medians of all sizes; 1 takes twice as long for twice "
            f"as much. The interval ({report.scalings[0].confidence:.0%}) is over the sizes; growth that is no power "
            "widens it."
        )
    ratio = next((row.ratio for row in report.rows if row.ratio is not None), None)
    if ratio is not None:
        notes.append(
            f"vs baseline: median over that of {ratio.baseline}, mean of {ratio.blocks} blocks with a fresh process of "
            f"each, with a {ratio.confidence:.0%} interval over blocks; below 1 is faster. A difference is one from "
            f"{report.method.min_effect:.0%} on, and if the interval does not contain 1."
        )
    return tuple(notes)


def _ratio_cell(row: ProfileRow) -> Cell:
    ratio = row.ratio
    if ratio is None:
        return Cell("–", Tone.MUTED)
    if ratio.low is None or ratio.high is None:
        return Cell(f"{ratio.value:.2f}, {ratio.finding}", Tone.MUTED)
    text = _ratio_text(ratio)
    tones = {Finding.FASTER: Tone.GOOD, Finding.SLOWER: Tone.BAD}
    if ratio.finding in tones:
        return Cell(text, tones[ratio.finding])
    return Cell(f"{text} {ratio.finding}", Tone.NEUTRAL)


def _precision(row: ProfileRow) -> str:
    """Return the precision, for INT8 with the mode in which its arithmetic was done."""
    mode = row.options.get("int8") if row.precision.startswith("int8") else None
    return f"{row.precision} ({mode})" if mode else row.precision or "–"


def _p50(row: ProfileRow) -> float:
    return row.latency.p50 if row.latency is not None else float("inf")


def _row_name(row: ProfileRow) -> str:
    return f"{row.label}, {_at(row)}"


def _at(subject: ProfileRow | BudgetCheck | GateCheck) -> str:
    return setting(batch=subject.batch, image_size=subject.image_size, threads=subject.threads)


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""
