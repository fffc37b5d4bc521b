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
from linglos_deploy.reports.parity import CriterionResult, LayerReport, Metric, OutputParity, ParityReport

_WORST_LAYERS = 15
_AT_MOST = frozenset({Metric.MAX_RELATIVE, Metric.MISMATCHED_NONFINITE})
_METRIC_NAMES = {
    Metric.MISMATCHED_NONFINITE: "mismatched NaN or infinity",
    Metric.MAX_RELATIVE: "largest relative difference",
    Metric.COSINE: "cosine",
    Metric.WORST_COSINE: "worst cosine of a sample",
    Metric.SQNR_DB: "SQNR in dB",
    Metric.TOP1_AGREEMENT: "top-1 agreement",
}


@sections_of.register
def parity_sections(report: ParityReport) -> tuple[Section, ...]:
    """Parity: SQNR of every output, all metrics, every criterion, and the worst samples."""
    checks = tuple(
        Check(f"{output.output}: {_METRIC_NAMES[result.metric]}", result.passed, _found(result), _limit(result))
        for output in report.outputs
        for result in output.criteria
    )
    limits = {result.limit for output in report.outputs for result in output.criteria if result.metric == "sqnr_db"}
    chart = BarChart(
        title="Signal to quantization noise (dB)",
        caption="Higher is closer to the reference; every 6 dB halve the noise.",
        bars=tuple(
            Bar(
                label=output.output,
                value=max(0.0, output.metrics.sqnr_db),
                text=f"{output.metrics.sqnr_db:.1f}",
                tone=Tone.GOOD if output.passed else Tone.BAD,
            )
            for output in report.outputs
        ),
        limit=limits.pop() if len(limits) == 1 else None,
    )
    failed = [check.name for check in checks if not check.passed]
    return (
        Section(
            title=f"Parity of {report.candidate}",
            passed=report.passed,
            summary=f"Compared with {report.reference} on {report.samples} samples: "
            + (f"{len(failed)} of {len(checks)} criteria fail." if failed else f"all {len(checks)} criteria hold."),
            facts=(
                ("reference", report.reference),
                ("candidate", report.candidate),
                ("precision", report.precision),
                ("samples", str(report.samples)),
            ),
            warnings=report.warnings,
            charts=(chart,) if report.outputs else (),
            tables=(_metrics_table(report.outputs), _criteria_table(report.outputs), _worst_table(report.outputs)),
            checks=checks,
        ),
    )


@sections_of.register
def layer_sections(report: LayerReport) -> tuple[Section, ...]:
    """Layer by layer: SQNR along the graph, and the layers that are furthest off."""
    worst = sorted(report.layers, key=lambda layer: layer.metrics.sqnr_db)[:_WORST_LAYERS]
    where = (
        f"The first tensor below {report.limit_db:g} dB is {report.first_beyond}."
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
            Cell(output.output),
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
                Cell(output.output),
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
            (Cell(output.output), Cell(sample.id), Cell(similarity(sample.cosine)), Cell(significant(sample.max_abs)))
            for output in outputs
            for sample in output.worst
        ),
    )


def _found(result: CriterionResult) -> str:
    return _metric_value(result.metric, result.found)


def _limit(result: CriterionResult) -> str:
    return f"{'≤' if result.metric in _AT_MOST else '≥'} {_metric_value(result.metric, result.limit)}"


def _metric_value(metric: Metric, value: float) -> str:
    match metric:
        case Metric.COSINE | Metric.WORST_COSINE:
            return similarity(value)
        case Metric.SQNR_DB:
            return f"{value:.1f}"
        case Metric.TOP1_AGREEMENT:
            return f"{value:.2%}"
        case Metric.MISMATCHED_NONFINITE:
            return f"{value:.0f}"
        case Metric.MAX_RELATIVE:
            return significant(value)
