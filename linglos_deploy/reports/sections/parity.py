"""How parity looks: the difference per output, every criterion, and where along the graph it begins."""

from __future__ import annotations

from collections.abc import Sequence

from linglos_deploy.reports.document import (
    Bar,
    BarChart,
    Cell,
    Check,
    Column,
    LineChart,
    Section,
    Table,
    Tone,
    sections_of,
)
from linglos_deploy.reports.numbers import significant, similarity
from linglos_deploy.reports.parity import (
    CriterionResult,
    Finding,
    LayerReport,
    Location,
    Metric,
    OutputParity,
    ParityOutcome,
    ParityReport,
    StructuralProof,
)

_WORST_LAYERS = 15
_ALWAYS = ("Difference per output", "Criteria", "Samples that differ most")
_MOST_DIFFERENCES = 20
_METRIC_NAMES = {
    Metric.MISMATCHED_NONFINITE: "mismatched NaN or infinity",
    Metric.MAX_RELATIVE: "largest relative difference",
    Metric.COSINE: "cosine",
    Metric.WORST_COSINE: "worst cosine of a sample",
    Metric.SQNR_DB: "SQNR in dB",
    Metric.TOP1_AGREEMENT: "top-1 agreement",
    Metric.VARIATION_DB: "SQNR around the mean in dB",
    Metric.GROUP_DB: "SQNR of the worst channel group in dB",
    Metric.MAX_ABS: "largest difference",
    Metric.MEAN_ABS: "mean difference",
    Metric.MEAN_RELATIVE: "mean relative difference",
    Metric.KL_DIVERGENCE: "divergence of the classes in nats",
    Metric.TOP5_AGREEMENT: "top-5 agreement",
}


@sections_of.register
def parity_sections(report: ParityReport) -> tuple[Section, ...]:
    """Parity: SQNR of every output, all metrics, every criterion, and the worst samples."""
    checks = (*_proof_checks(report.proof), *_output_checks(report.outputs), *_finding_checks(report.findings))
    limits = {result.limit for output in report.outputs for result in output.criteria if result.metric == "sqnr_db"}
    chart = BarChart(
        title="Signal to quantization noise (dB)",
        caption="Higher is closer to the reference; every 6 dB halve the noise.",
        bars=tuple(
            Bar(
                label=_place(output),
                value=max(0.0, output.metrics.sqnr_db),
                text=f"{output.metrics.sqnr_db:.1f}",
                tone=Tone.GOOD if output.passed else Tone.BAD,
            )
            for output in report.outputs
        ),
        limit=limits.pop() if len(limits) == 1 else None,
    )
    failed = [check.name for check in checks if check.passed is False]
    return (
        Section(
            title=f"Parity of {report.candidate}",
            passed=report.passed,
            summary=f"Compared with {report.reference} on {report.samples} samples: "
            + (f"{len(failed)} of {len(checks)} checks fail." if failed else _all_hold(checks)),
            facts=(
                ("reference", report.reference),
                ("candidate", report.candidate),
                ("precision", report.precision),
                ("samples", str(report.samples)),
            ),
            warnings=report.warnings,
            charts=(chart,) if report.outputs else (),
            tables=tuple(
                table
                for table in (
                    _findings_table(report),
                    _metrics_table(report.outputs),
                    _criteria_table(report.outputs),
                    _worst_table(report.outputs),
                    _flip_table(report.outputs),
                    _channel_table(report.outputs),
                )
                if table.rows or table.title in _ALWAYS
            ),
            checks=checks,
        ),
    )


@sections_of.register
def outcome_sections(outcome: ParityOutcome) -> tuple[Section, ...]:
    """The sections of every verdict, and where graphs go wrong."""
    parts: tuple[object, ...] = (*outcome.reports, *outcome.layers, *outcome.locations)
    return tuple(section for part in parts for section in sections_of(part))


@sections_of.register
def layer_sections(report: LayerReport) -> tuple[Section, ...]:
    """Layer by layer: SQNR along the graph, and the layers that are furthest off."""
    worst = sorted(report.layers, key=lambda layer: layer.metrics.sqnr_db)[:_WORST_LAYERS]
    other = " or of another shape" if report.misshapen else ""
    where = (
        f"The first tensor below {report.limit_db:g} dB{other} is {report.first_beyond}."
        if report.first_beyond is not None
        else f"No tensor is below {report.limit_db:g} dB."
    )
    chart = LineChart(
        title="SQNR along the graph (dB)",
        caption="From input to output; a sudden fall shows the layer that costs accuracy.",
        labels=tuple(layer.tensor for layer in report.layers),
        values=tuple(layer.metrics.sqnr_db for layer in report.layers),
        limit=report.limit_db,
    )
    table = Table(
        title=f"The {len(worst)} tensors that differ most",
        columns=(Column("tensor"), Column("operator"), Column("SQNR dB", True), Column("cosine", True)),
        rows=tuple(
            (
                Cell(layer.tensor),
                Cell(layer.op_type),
                Cell(
                    f"{layer.metrics.sqnr_db:.1f}",
                    Tone.BAD if layer.metrics.sqnr_db < report.limit_db else Tone.NEUTRAL,
                ),
                Cell(similarity(layer.metrics.cosine)),
            )
            for layer in worst
        ),
    )
    return (
        Section(
            title=f"Layers of {report.candidate}",
            summary=f"{len(report.layers)} tensors compared with {report.reference} on {report.samples} samples. "
            + where,
            charts=(chart,) if len(report.layers) > 1 else (),
            tables=(table,) if worst else (),
        ),
    )


@sections_of.register
def location_sections(report: Location) -> tuple[Section, ...]:
    """Where a graph first goes wrong, what feeds it, and how the error grows."""
    if report.tensor is None and report.layer is not None:
        summary = f"The structure differs first at {report.layer}; no tensor that was looked at tells."
    elif report.tensor is None:
        summary = f"Every tensor that was looked at is that of {report.reference}, to {report.limit_db:g} dB."
    else:
        module = f", PyTorch module {report.module}" if report.module else ""
        summary = (
            f"{report.layer} is the first layer that is not what it should be{module}: "
            f"{report.tensor} has {report.sqnr_db:.1f} dB, limit {report.limit_db:g}; what it reads is right."
        )
    facts = [("compared with", report.reference), ("tensors", str(report.tensors)), ("runs", str(report.runs))]
    if report.layer is not None:
        facts += [("layer", str(report.layer)), ("node", str(report.node)), ("reads", ", ".join(report.feeds))]
    chart = LineChart(
        title="SQNR of the tensors that were looked at (dB)",
        caption="From input to output.",
        labels=tuple(probe.tensor for probe in report.probes),
        values=tuple(probe.sqnr_db for probe in report.probes),
        limit=report.limit_db,
    )
    return (
        Section(
            title=f"Where {report.candidate} first goes wrong",
            summary=summary,
            facts=tuple(facts),
            charts=(chart,) if len(report.probes) > 1 else (),
        ),
    )


def _place(output: OutputParity) -> str:
    return f"{output.output}, {output.images}" if output.images else output.output


def _all_hold(checks: Sequence[Check]) -> str:
    left = sum(check.passed is None for check in checks)
    held = f"all {len(checks) - left} checks hold"
    return f"{held}; {left} could not be made here." if left else f"{held}."


def _output_checks(outputs: Sequence[OutputParity]) -> tuple[Check, ...]:
    return tuple(
        Check(f"{_place(output)}: {_METRIC_NAMES[result.metric]}", result.passed, _found(result), _limit(result))
        for output in outputs
        for result in output.criteria
    )


def _proof_checks(proof: StructuralProof | None) -> tuple[Check, ...]:
    """One check for the proof as a whole, and one for each of its first differences."""
    if proof is None:
        return ()
    plan = " and the quantization plan" if proof.against_plan else ""
    seen = f"{proof.nodes} nodes, {proof.constants} constants, {proof.weights} weights, {proof.pairs} rounded tensors"
    found = seen if proof.passed else f"{len(proof.differences)} differences"
    checks = [Check(f"structure follows from {proof.parent}{plan}", proof.passed, found, "no difference")]
    checks += [
        Check(f"structure: {difference.node}: {difference.what}", False, difference.found, difference.expected)
        for difference in proof.differences[:_MOST_DIFFERENCES]
    ]
    return tuple(checks)


def _finding_checks(findings: Sequence[Finding]) -> tuple[Check, ...]:
    return tuple(Check(finding.name, finding.passed, finding.found, finding.expected) for finding in findings)


def _findings_table(report: ParityReport) -> Table:
    checks = (*_proof_checks(report.proof), *_finding_checks(report.findings))
    verdicts = {
        True: Cell("passed", Tone.GOOD),
        False: Cell("failed", Tone.BAD),
        None: Cell("not checked", Tone.MUTED),
    }
    return Table(
        title="Proof, places in a batch, inner tensors, what was reached before",
        columns=(Column("what"), Column("found"), Column("expected"), Column("verdict")),
        rows=tuple(
            (Cell(check.name), Cell(check.found), Cell(check.limit), verdicts[check.passed]) for check in checks
        ),
    )


def _flip_table(outputs: Sequence[OutputParity]) -> Table:
    return Table(
        title="Samples whose best class is another one",
        columns=(
            Column("output"),
            Column("sample"),
            Column("reference", True),
            Column("candidate", True),
            Column("margin", True),
        ),
        rows=tuple(
            (
                Cell(_place(output)),
                Cell(flip.id),
                Cell(str(flip.reference)),
                Cell(str(flip.candidate)),
                Cell(significant(flip.margin)),
            )
            for output in outputs
            for flip in output.flips
        ),
    )


def _channel_table(outputs: Sequence[OutputParity]) -> Table:
    return Table(
        title="Channels by order of magnitude",
        columns=(Column("output"), Column("channels"), Column("root mean square", True), Column("SQNR dB", True)),
        rows=tuple(
            (
                Cell(_place(output)),
                Cell(_spans(group.channels)),
                Cell(significant(group.rms)),
                Cell(f"{group.sqnr_db:.1f}"),
            )
            for output in outputs
            for group in output.metrics.groups
        ),
    )


def _spans(channels: Sequence[int]) -> str:
    """Write indices in short: 0, 1, 2, 5 becomes 0–2, 5."""
    spans: list[list[int]] = []
    for channel in channels:
        if spans and channel == spans[-1][-1] + 1:
            spans[-1] = [spans[-1][0], channel]
        else:
            spans.append([channel])
    return ", ".join("–".join(map(str, dict.fromkeys(span))) for span in spans)


def _metrics_table(outputs: Sequence[OutputParity]) -> Table:
    columns = (
        Column("output"),
        Column("cosine", True),
        Column("worst cosine", True, minor=True),
        Column("SQNR dB", True),
        Column("max abs", True),
        Column("max relative", True, minor=True),
        Column("mean abs", True, minor=True),
        Column("top-1", True),
        Column("NaN / inf", True),
    )
    rows = tuple(
        (
            Cell(_place(output)),
            Cell(similarity(output.metrics.cosine)),
            Cell(similarity(output.metrics.worst_cosine)),
            Cell(f"{output.metrics.sqnr_db:.1f}"),
            Cell(significant(output.metrics.max_abs)),
            Cell(significant(output.metrics.max_relative)),
            Cell(significant(output.metrics.mean_abs)),
            Cell("–" if output.metrics.top1_agreement is None else f"{output.metrics.top1_agreement:.2%}"),
            Cell(
                str(output.metrics.mismatched_nonfinite),
                Tone.BAD if output.metrics.mismatched_nonfinite else Tone.NEUTRAL,
            ),
        )
        for output in outputs
    )
    return Table("Difference per output", columns, rows)


def _criteria_table(outputs: Sequence[OutputParity]) -> Table:
    return Table(
        title="Criteria",
        columns=(
            Column("output"),
            Column("criterion"),
            Column("found", True),
            Column("limit", True),
            Column("verdict"),
        ),
        rows=tuple(
            (
                Cell(_place(output)),
                Cell(_METRIC_NAMES[result.metric]),
                Cell(_found(result), Tone.NEUTRAL if result.passed else Tone.BAD),
                Cell(_limit(result)),
                Cell("passed", Tone.GOOD) if result.passed else Cell("failed", Tone.BAD),
            )
            for output in outputs
            for result in output.criteria
        ),
    )


def _worst_table(outputs: Sequence[OutputParity]) -> Table:
    return Table(
        title="Samples that differ most",
        columns=(Column("output"), Column("sample"), Column("cosine", True), Column("max abs", True)),
        rows=tuple(
            (Cell(_place(output)), Cell(sample.id), Cell(similarity(sample.cosine)), Cell(significant(sample.max_abs)))
            for output in outputs
            for sample in output.worst
        ),
    )


def _found(result: CriterionResult) -> str:
    return _metric_value(result.metric, result.found)


def _limit(result: CriterionResult) -> str:
    return f"{'≤' if result.metric.at_most else '≥'} {_metric_value(result.metric, result.limit)}"


def _metric_value(metric: Metric, value: float) -> str:
    match metric:
        case Metric.COSINE | Metric.WORST_COSINE:
            return similarity(value)
        case Metric.SQNR_DB | Metric.VARIATION_DB | Metric.GROUP_DB:
            return f"{value:.1f}"
        case Metric.TOP1_AGREEMENT | Metric.TOP5_AGREEMENT:
            return f"{value:.2%}"
        case Metric.MISMATCHED_NONFINITE:
            return f"{value:.0f}"
        case _:
            return significant(value)
