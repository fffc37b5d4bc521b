"""How parity looks: the difference per output, every criterion, and where along the graph it begins."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from linglos_deploy.reports.document import (
    Bar,
    BarChart,
    Card,
    Cell,
    Check,
    Column,
    ErrorGrowth,
    Gallery,
    LineChart,
    Section,
    Table,
    Tone,
    sections_of,
)
from linglos_deploy.reports.numbers import significant, similarity
from linglos_deploy.reports.parity import (
    ERROR_QUANTILES,
    CriterionResult,
    Finding,
    LayerReport,
    Location,
    Metric,
    OutputParity,
    ParityOutcome,
    ParityReport,
    Probe,
    StructuralProof,
)

_WORST_LAYERS = 15
_ALWAYS = ("Difference per output", "Criteria", "Samples that differ most")
_MOST_DIFFERENCES = 20
_FEW_CLASSES, _MOST_CLASSES = 20, 30
METRIC_NAMES = {
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
            passed=None if report.undecided else report.passed,
            summary=f"Compared with {report.reference} on {report.samples} samples: "
            + (f"{len(failed)} of {len(checks)} checks fail." if failed else _all_hold(checks)),
            facts=(
                ("reference", report.reference),
                ("candidate", report.candidate),
                ("precision", report.precision),
                ("samples", str(report.samples)),
            ),
            warnings=(*report.warnings, *_open_questions(report)),
            charts=(*((chart,) if report.outputs else ()), *_growth_chart(report)),
            galleries=_galleries(report),
            tables=tuple(
                table
                for table in (
                    _failures_table(checks),
                    _findings_table(report),
                    _metrics_table(report.outputs),
                    _criteria_table(report.outputs),
                    _worst_table(report.outputs),
                    _error_table(report.outputs),
                    _flip_table(report.outputs, report.labels),
                    _class_table(report.outputs, report.labels),
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
        facts += [("layer", str(report.layer)), ("node", str(report.node))]
    if report.feeds:
        facts.append(("reads", ", ".join(report.feeds)))
    chart = growth_of(
        report.probes,
        title="The tensors that were looked at",
        caption="Error in percent of each tensor's size, from input to output.",
        limit_db=report.limit_db,
        marked=report.tensor,
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


def _open_questions(report: ParityReport) -> Iterator[str]:
    for finding in report.findings:
        if finding.undecided:
            yield f"Cannot tell whether {finding.name}: {finding.found}; {finding.expected}."


def _output_checks(outputs: Sequence[OutputParity]) -> tuple[Check, ...]:
    return tuple(
        Check(f"{_place(output)}: {METRIC_NAMES[result.metric]}", result.passed, _found(result), _limit(result))
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


def _failures_table(checks: Sequence[Check]) -> Table:
    return Table(
        title="What fails",
        columns=(Column("check"), Column("found", prose=True), Column("limit", prose=True)),
        leading=True,
        rows=tuple(
            (Cell(check.name), Cell(check.found, Tone.BAD), Cell(check.limit))
            for check in checks
            if check.passed is False
        ),
    )


def _findings_table(report: ParityReport) -> Table:
    checks = (*_proof_checks(report.proof), *_finding_checks(report.findings))
    verdicts = {
        True: Cell("passed", Tone.GOOD),
        False: Cell("failed", Tone.BAD),
        None: Cell("not checked", Tone.MUTED),
    }
    return Table(
        title="Proof, places in a batch, inner tensors, what was reached before",
        columns=(
            Column("what", prose=True),
            Column("found", prose=True),
            Column("expected", prose=True),
            Column("verdict"),
        ),
        rows=tuple(
            (Cell(check.name), Cell(check.found), Cell(check.limit), verdicts[check.passed]) for check in checks
        ),
    )


def growth_of(
    probes: Sequence[Probe], *, title: str, caption: str, limit_db: float | None = None, marked: str | None = None
) -> ErrorGrowth:
    """Return the picture of the error through the network: 10^(-SQNR/20) of each tensor, part by part."""
    return ErrorGrowth(
        title=title,
        caption=caption,
        labels=tuple(probe.tensor for probe in probes),
        errors=tuple(10 ** (-probe.sqnr_db / 20) for probe in probes),
        stages=tuple(_stage(probe.tensor) for probe in probes),
        limit=None if limit_db is None else 10 ** (-limit_db / 20),
        marked=marked,
    )


def _stage(tensor: str) -> str:
    """Return the part of the network that a tensor's name begins with: its first word, and a number behind it."""
    words = re.split(r"[./:]+", tensor.strip("/"))
    return ".".join(words[:2]) if len(words) > 1 and words[1].isdigit() else words[0]


def _growth_chart(report: ParityReport) -> tuple[ErrorGrowth, ...]:
    if len(report.growth) < 2:
        return ()
    parent = report.proof.parent if report.proof is not None else "its reference"
    caption = f"Noise of each inner tensor next to {parent}, in percent of its signal, from input to output."
    return (
        growth_of(
            report.growth,
            title="How the error grows through the network",
            caption=f"{caption} A step shows the layer that costs most; the worst tensor is named.",
        ),
    )


def _galleries(report: ParityReport) -> tuple[Gallery, ...]:
    """Return the samples that flipped, with what both say of them."""
    found: list[Gallery] = []
    for output in sorted(report.outputs, key=lambda output: -output.metrics.samples):
        largest = max((flip.margin for flip in output.flips), default=0.0)
        cards = tuple(
            Card(
                picture=flip.picture,
                title=flip.id,
                before=_class_name(flip.reference, report.labels),
                after=_class_name(flip.candidate, report.labels),
                share=flip.margin / largest if largest > 0 else 0.0,
                text=f"margin {significant(flip.margin)}, then {significant(flip.candidate_margin)}",
            )
            for flip in output.flips
        )
        if cards:
            caption = (
                f"The reference says the first, {report.candidate} the second. The margin is how much higher the first"
                " is rated than the second; a small one is a near tie. Then: how much higher the second is rated now."
            )
            found.append(Gallery(f"Answers that changed: {_place(output)}", "" if found else caption, cards))
    return tuple(found)


def _class_name(index: int, labels: Sequence[str]) -> str:
    return labels[index] if index < len(labels) else str(index)


def _class_table(outputs: Sequence[OutputParity], labels: Sequence[str]) -> Table:
    """Class by class, those that lost most first; where none lost, all of a few classes."""
    rows = [(output, found) for output in outputs for found in output.classes]
    lost = [(output, found) for output, found in rows if found.agreed < found.samples]
    shown = sorted(lost or (rows if len(rows) <= _FEW_CLASSES else []), key=lambda row: row[1].agreed / row[1].samples)
    return Table(
        title="Best class, class by class" + ("" if len(lost) <= _MOST_CLASSES else f": the worst {_MOST_CLASSES}"),
        columns=(
            Column("output"),
            Column("class of the reference"),
            Column("samples", True),
            Column("kept", True),
            Column("share", True),
            Column("mostly taken for"),
        ),
        rows=tuple(
            (
                Cell(_place(output)),
                Cell(_class_name(found.index, labels)),
                Cell(str(found.samples)),
                Cell(str(found.agreed)),
                Cell(f"{found.agreed / found.samples:.1%}", Tone.BAD if found.agreed < found.samples else Tone.GOOD),
                Cell("–" if found.mostly is None else _class_name(found.mostly, labels)),
            )
            for output, found in shown[:_MOST_CLASSES]
        ),
        first=10,
        folded=not lost,
    )


def _error_table(outputs: Sequence[OutputParity]) -> Table:
    quantiles = tuple(
        Column(f"{share:.1%} below" if share > 0.99 else f"{share:.0%} below", True) for share in ERROR_QUANTILES
    )
    return Table(
        title="Absolute errors, and classes as distributions",
        folded=True,
        columns=(
            Column("output"),
            *quantiles,
            Column("mean relative", True),
            Column("top-5", True),
            Column("KL divergence, nats", True),
        ),
        rows=tuple(
            (
                Cell(_place(output)),
                *(Cell(significant(error)) for error in output.metrics.abs_quantiles),
                Cell(significant(output.metrics.mean_relative)),
                Cell("–" if output.metrics.top5_agreement is None else f"{output.metrics.top5_agreement:.2%}"),
                Cell("–" if output.metrics.kl_divergence is None else significant(output.metrics.kl_divergence)),
            )
            for output in outputs
            if len(output.metrics.abs_quantiles) == len(ERROR_QUANTILES)
        ),
    )


def _flip_table(outputs: Sequence[OutputParity], labels: Sequence[str]) -> Table:
    return Table(
        title="Samples whose best class is another one",
        folded=True,
        columns=(
            Column("output"),
            Column("sample"),
            Column("reference"),
            Column("candidate"),
            Column("margin", True),
        ),
        rows=tuple(
            (
                Cell(_place(output)),
                Cell(flip.id),
                Cell(_class_name(flip.reference, labels)),
                Cell(_class_name(flip.candidate, labels)),
                Cell(significant(flip.margin)),
            )
            for output in outputs
            for flip in output.flips
        ),
    )


def _channel_table(outputs: Sequence[OutputParity]) -> Table:
    return Table(
        title="Channels by order of magnitude",
        folded=True,
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
        folded=True,
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
                Cell(METRIC_NAMES[result.metric]),
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
        folded=True,
        columns=(Column("output"), Column("sample"), Column("cosine", True), Column("max abs", True)),
        rows=tuple(
            (Cell(_place(output)), Cell(sample.id), Cell(similarity(sample.cosine)), Cell(significant(sample.max_abs)))
            for output in outputs
            for sample in output.worst
        ),
    )


def _found(result: CriterionResult) -> str:
    return metric_value(result.metric, result.found)


def _limit(result: CriterionResult) -> str:
    return f"{'≤' if result.metric.at_most else '≥'} {metric_value(result.metric, result.limit)}"


def metric_value(metric: Metric, value: float) -> str:
    """Return a value of a measure as people read it."""
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
