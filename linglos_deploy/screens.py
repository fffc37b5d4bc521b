"""How results look in a terminal: one function per kind of result, on stdout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from linglos_deploy.inspection import TableSummary
from linglos_deploy.reports.doctor import DoctorReport
from linglos_deploy.reports.export import AccuracyVerdict, EngineOutcome, ExportReport
from linglos_deploy.reports.numbers import file_size
from linglos_deploy.reports.parity import ParityOutcome, ParityReport
from linglos_deploy.reports.profile import ProfileReport
from linglos_deploy.verbs.predict import Prediction
from linglos_deploy.verbs.quantize import QuantizeResult

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_PARITY_NAMES = ("Parity", "Images", "Output")
_PARITY_COLUMNS = (*_PARITY_NAMES, "Count", "Max abs", "Max rel", "Cosine", "SQNR", "Top-1 same")

_DISPENSABLE = ("Count", "Max rel", "Max abs", "Top-1 same", "Cosine")
"""Columns of a parity table that a narrow terminal does without, the first one first."""

_MOST_DIFFERENCES = 8
"""Differences of structure that a screen names; the report holds them all."""


def show_export(report: ExportReport, console: Console) -> None:
    """Show the last screen of ``export``: accuracy, parity, engines, latency, and where the bundle lies."""
    _say(console, f"\n{report.name}  {report.parameters / 1e6:.2f} M parameters, {report.precision}")
    if report.accuracy is not None:
        _show_accuracy(report.accuracy, console)
    show_parity(report.parity, console)
    show_engines(report.engines, console)
    if report.profile is not None:
        show_profile(report.profile, console, details=False)
        _say(console, report.advice)
        for command in report.next_commands:
            _say(console, command, mark="Next    ")
        _say(console, "")
    for verdict in report.targets:
        if not verdict.slower:  # which is among the warnings
            _say(console, verdict.sentence)
    _show_files(report, console)
    _say(console, f"bundle in {report.bundle}", mark=f"\n{_verdict(report.passed)}  ")


def show_predictions(predictions: Sequence[Prediction], console: Console) -> None:
    """Show every picture's name, and what the model says about it."""
    for prediction in predictions:
        _say(console, prediction.image)
        for line in prediction.lines():
            _say(console, f"  {line}")
        if prediction.drawn is not None:
            _say(console, f"  drawn in {prediction.drawn}")


def show_parity(reports: Sequence[ParityReport], console: Console) -> None:
    """Show how far every graph is from its reference, what was proven, and each check that does not hold."""
    rows = []
    for report in reports:
        for output in report.outputs:
            found = output.metrics
            agreement = "" if found.top1_agreement is None else f"{100 * found.top1_agreement:.1f} %"
            cells = (
                report.candidate,
                output.images or report.reference,
                output.output,
                str(found.samples),
                f"{found.max_abs:.2e}",
                f"{found.max_relative:.2e}",
                f"{found.cosine:.6f}",
                f"{found.sqnr_db:.1f} dB",
                agreement,
            )
            rows.append((dict(zip(_PARITY_COLUMNS, cells, strict=True)), _verdict(output.passed)))
    _print_parity_table(rows, console)
    for report in reports:
        _say(console, f"{report.candidate} against {report.reference}: {_checked(report)}")
        for text in _failures(report):
            _say(console, f"  {text}")
        for finding in report.findings:
            if finding.passed is None:
                _say(console, f"{finding.name}: {finding.found}; {finding.expected}", mark="[yellow]![/] ")
        for warning in report.warnings:
            _say(console, warning, mark="[yellow]![/] ")


def _print_parity_table(rows: Sequence[tuple[dict[str, str], str]], console: Console) -> None:
    """Print names, figures and verdicts; where they do not fit, figures are left out and said, and names wrapped."""
    from rich import box
    from rich.table import Table

    widths = {name: max([len(name), *(len(cells[name]) for cells, _ in rows)]) for name in _PARITY_COLUMNS}
    shown, left_out = list(_PARITY_COLUMNS), []
    for name in _DISPENSABLE:
        if sum(widths[column] + 3 for column in shown) + len("PASS") + 1 > console.width:
            shown.remove(name)
            left_out.append(name)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in shown:
        table.add_column(column, overflow="fold", no_wrap=column not in _PARITY_NAMES)
    table.add_column("", no_wrap=True)
    for cells, verdict in rows:
        table.add_row(*(escape(cells[column]) for column in shown), verdict)
    console.print(table)
    if left_out:
        _say(console, f"Too narrow for: {', '.join(left_out)}.")


def _checked(report: ParityReport) -> str:
    """Say what a verdict rests on."""
    parts = ["passed" if report.passed else "CANNOT TELL" if report.undecided else "FAILED"]
    if report.proof is not None:
        plan = " and the plan" if report.proof.against_plan else ""
        parts.append(
            f"structure is that of {report.proof.parent}{plan}" if report.proof.passed else "structure differs"
        )
    held = sum(finding.passed is True for finding in report.findings)
    parts.append(f"{held} of {sum(finding.passed is not None for finding in report.findings)} other checks hold")
    return ", ".join(parts)


def _failures(report: ParityReport) -> Iterator[str]:
    differences = report.proof.differences if report.proof is not None else ()
    for difference in differences[:_MOST_DIFFERENCES]:
        yield f"{difference.node}: {difference.what}: {difference.found}, expected {difference.expected}"
    if len(differences) > _MOST_DIFFERENCES:
        yield f"… and {len(differences) - _MOST_DIFFERENCES} more differences of structure"
    for output in report.outputs:
        place = f"{output.output} ({output.images})" if output.images else output.output
        for result in output.criteria:
            if not result.passed:
                yield f"{place}: {result.metric} {result.found:.6g}, limit {result.limit:.6g}"
    for finding in report.findings:
        if finding.passed is False:
            node = f" at {finding.node}" if finding.node else ""
            yield f"{finding.name}: no: {finding.found}{node}, expected {finding.expected}"


def show_parity_outcome(outcome: ParityOutcome, console: Console) -> None:
    """Show the verdicts, and the layers if they were compared."""
    from linglos_deploy.reports.text import renderables

    show_parity(outcome.reports, console)
    for part in renderables([*outcome.layers, *outcome.locations], width=console.width):
        console.print(part)


def show_profile(report: ProfileReport, console: Console, *, details: bool = True, every_row: bool = False) -> None:
    """Show latencies; without ``details``, only table and warnings; without ``every_row``, the slowest layers."""
    from linglos_deploy.reports.text import renderables

    for part in renderables([report], details=details, every_row=every_row, width=console.width):
        console.print(part)


def show_described(value: object, console: Console, *, every_row: bool = False) -> None:
    """Show a file or what is in it; without ``every_row``, the rows of long tables that matter."""
    from linglos_deploy import descriptions
    from linglos_deploy.reports.text import renderables

    assert descriptions  # registered how it looks
    for part in renderables([value], every_row=every_row, width=console.width):
        console.print(part)


def show_table(table: TableSummary, console: Console, *, path: Path, every_row: bool = False) -> None:
    """Show what calibration saw, where it lies, and what comes next."""
    show_described(table, console, every_row=every_row)
    _say(console, f"Table  {path}")
    _say(console, f"Next   linglos-deploy quantize MODEL.onnx --table {path}")


def show_plan(result: QuantizeResult, console: Console, *, every_row: bool = False) -> None:
    """Show what becomes INT8, why the rest does not, where plan and graph lie, and what comes next."""
    show_described(result.plan, console, every_row=every_row)
    if result.plan_file is not None:
        _say(console, f"Plan   {result.plan_file}")
    if result.graph is not None:
        _say(console, f"Graph  {result.graph.path}")
        _say(console, f"Next   linglos-deploy parity {result.graph.path} --reference MODEL.onnx --data images/")


def show_engines(outcomes: Sequence[EngineOutcome], console: Console) -> None:
    """Show which engines were built, and why others were not."""
    for outcome in outcomes:
        if outcome.file is None:
            _say(console, f"{outcome.backend}: {outcome.detail}", mark="Engine  [yellow]not built[/] ")
        else:
            built = f"{outcome.file}  {file_size(outcome.bytes)} in {outcome.seconds:.1f} s  ({outcome.detail})"
            _say(console, built, mark="Engine  [green]built[/] ")
            for container in outcome.containers:
                _say(console, f"{container}  (not yet run on a GPU)", mark="        beside it ")


def show_doctor(report: DoctorReport, console: Console) -> None:
    """Show this machine, its backends, and whether engines load here."""
    machine = report.machine
    facts = _plain_table()
    memory = f"{machine.memory_bytes / 2**30:.1f} GiB" if machine.memory_bytes else "unknown memory"
    facts.add_row("System", escape(f"{machine.system}, Python {machine.python}"))
    facts.add_row("CPU", escape(f"{machine.cpu}, {machine.cpu_count} usable, {memory}"))
    if machine.gpus:
        for gpu in machine.gpus:
            facts.add_row(
                f"GPU {gpu.index}",
                escape(f"{gpu.name}, compute capability {gpu.compute_capability}, {gpu.memory_bytes / 2**30:.0f} GiB"),
            )
        facts.add_row("Driver", escape(f"{machine.driver}, CUDA {machine.cuda}"))
    else:
        facts.add_row("GPU", escape(f"none ({machine.gpu_detail})"))
    console.print(facts)
    table = _table("Backend", "Version", "Runs", "Compiles", "Here")
    for backend in report.backends:
        detail = escape(backend.detail) + (
            f"\n[dim]get it: {escape(backend.how_to_get)}[/]" if backend.how_to_get else ""
        )
        table.add_row(backend.name, backend.version or "–", _tick(backend.runs), _tick(backend.compiles), detail)
    console.print(table)
    for check in report.engines:
        state = "[green]loads here[/]" if check.passed else "[red]does not load here[/]"
        _say(console, check.engine, mark=f"\n{state}  ")
        conditions = _table("Condition", "Here", "Needed", "")
        for condition in check.conditions:
            conditions.add_row(
                escape(condition.name), escape(condition.found), escape(condition.expected), _tick(condition.passed)
            )
        console.print(conditions)
        for condition in check.conditions:
            if condition.passed is False and condition.reason:
                _say(console, f"  {condition.name}: {condition.reason}")
        _say(console, f"  rebuild: {check.rebuild}")
    for use in report.graphs:
        _say(console, f"\n{use.graph}")
        offers = _table("Could", "With", "Here", "How")
        for verb, found in (("run", use.runs), ("be built", use.builds)):
            for offer in found:
                how = offer.command or offer.detail
                offers.add_row(verb, offer.backend, _tick(offer.possible), escape(how))
        console.print(offers)


def _show_accuracy(verdict: AccuracyVerdict, console: Console) -> None:
    table = _table("Model", "Precision", "Top-1", "Correct", "Change")
    reference = verdict.rows[0]
    for row in verdict.rows:
        change = "" if row is reference else f"{row.top1 - reference.top1:+.2f}"
        table.add_row(row.model, row.precision, f"{row.top1:.2f} %", f"{row.correct} / {row.count}", change)
    console.print(table)
    if verdict.max_drop is not None:
        doubt = "" if verdict.finding is None else ", but PyTorch itself may be guessing"
        console.print(
            f"{_verdict(verdict.passed)}  accuracy: largest loss {max(0.0, verdict.worst_drop):.2f} points,"
            f" {verdict.max_drop:g} accepted{doubt}",
            highlight=False,
        )


def _show_files(report: ExportReport, console: Console) -> None:
    sizes = ", ".join(f"{name} {file_size(size)}" for name, size in report.graphs.items())
    _say(console, f"Graphs  {sizes}")
    for warning in report.warnings:
        _say(console, warning, mark="[yellow]![/] ")


def _say(console: Console, text: str, *, mark: str = "") -> None:
    """Print one line whose text is data: never markup, never wrapped."""
    console.print(f"{mark}{escape(text)}", highlight=False, soft_wrap=True)


def _verdict(passed: bool) -> str:
    return "[bold green]PASS[/]" if passed else "[bold red]FAIL[/]"


def _tick(passed: bool | None) -> str:
    return {True: "[green]yes[/]", False: "[red]no[/]", None: "?"}[passed]


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)


def _plain_table() -> Table:
    from rich.table import Table

    return Table.grid(padding=(0, 2))
