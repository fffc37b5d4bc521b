"""How results look in a terminal: one function per kind of result, on stdout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from linglos_deploy.artifacts import Lineage
from linglos_deploy.bundle import Manifest
from linglos_deploy.engines.record import EngineRecord
from linglos_deploy.inspection import GraphDescription, Inspection, TableSummary
from linglos_deploy.quantization.plan import QuantPlan
from linglos_deploy.reports.doctor import DoctorReport
from linglos_deploy.reports.export import AccuracyVerdict, EngineOutcome, ExportReport
from linglos_deploy.reports.numbers import file_size
from linglos_deploy.reports.parity import ParityOutcome, ParityReport
from linglos_deploy.reports.profile import ProfileReport
from linglos_deploy.signature import ModelSignature
from linglos_deploy.verbs.quantize import QuantizeResult

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def show_export(report: ExportReport, console: Console) -> None:
    """Show the last screen of ``export``: accuracy, parity, engines, latency, and where the bundle lies."""
    _say(console, f"\n{report.name}  {report.parameters / 1e6:.2f} M parameters, {report.precision}")
    if report.accuracy is not None:
        _show_accuracy(report.accuracy, console)
    show_parity(report.parity, console)
    show_engines(report.engines, console)
    if report.profile is not None:
        show_profile(report.profile, console, details=False)
    _show_files(report, console)
    _say(console, f"bundle in {report.bundle}", mark=f"\n{_verdict(report.passed)}  ")


def show_parity(reports: Sequence[ParityReport], console: Console) -> None:
    """Show how far every graph is from its reference, and each criterion that does not hold."""
    table = _table("Parity", "Against", "Output", "Images", "Max abs", "Max rel", "Cosine", "SQNR", "Top-1 same", "")
    for report in reports:
        for output in report.outputs:
            found = output.metrics
            agreement = "" if found.top1_agreement is None else f"{100 * found.top1_agreement:.1f} %"
            table.add_row(
                escape(report.candidate),
                escape(report.reference),
                escape(output.output),
                str(report.samples),
                f"{found.max_abs:.2e}",
                f"{found.max_relative:.2e}",
                f"{found.cosine:.6f}",
                f"{found.sqnr_db:.1f} dB",
                agreement,
                _verdict(output.passed),
            )
    console.print(table)
    for report in reports:
        for output in report.outputs:
            for result in output.criteria:
                if not result.passed:
                    values = f"{result.metric} {result.found:.6g}, limit {result.limit:.6g}"
                    _say(console, f"  {report.candidate} {output.output}: {values}")
        for warning in report.warnings:
            _say(console, warning, mark="[yellow]![/] ")


def show_parity_outcome(outcome: ParityOutcome, console: Console) -> None:
    """Show the verdicts, and the layers if they were compared."""
    from linglos_deploy.reports.text import renderables

    show_parity(outcome.reports, console)
    for part in renderables(outcome.layers, width=console.width):
        console.print(part)


def show_profile(report: ProfileReport, console: Console, *, details: bool = True) -> None:
    """Show latencies; without ``details``, only the table and the warnings."""
    from linglos_deploy.reports.text import renderables

    for part in renderables([report], details=details, width=console.width):
        console.print(part)


def show_table(table: TableSummary, console: Console, *, path: Path | None = None) -> None:
    """Show what calibration saw, and where each method would clip."""
    methods = list(table.tensors[0].bounds) if table.tensors else []
    shown = _table("Tensor", "Min", "Max", "Mean", "Std", *(f"Clip {method}" for method in methods))
    for tensor in table.tensors:
        numbers = [tensor.minimum, tensor.maximum, tensor.mean, tensor.std]
        numbers += [tensor.bounds[method] for method in methods]
        shown.add_row(escape(tensor.tensor), *(f"{number:.4g}" for number in numbers))
    console.print(shown)
    source = "synthetic images" if table.synthetic else "images"
    place = f" in {path}" if path else ""
    _say(console, f"{len(table.tensors)} tensors seen on {table.image_count} {source}{place}")


def show_plan(result: QuantizeResult, console: Console) -> None:
    """Show what becomes INT8, and why the rest does not."""
    _show_plan(result.plan, console)
    if result.plan_file is not None:
        _say(console, f"Plan   {result.plan_file}")
    if result.graph is not None:
        _say(console, f"Graph  {result.graph.path}")


def show_inspection(inspection: Inspection, console: Console) -> None:
    """Show what a file is."""
    _say(console, f"{inspection.path}  {inspection.kind}")
    content = inspection.content
    if isinstance(content, Manifest):
        _show_manifest(content, console)
    elif isinstance(content, GraphDescription):
        _show_graph(content, console)
    elif isinstance(content, EngineRecord):
        _show_engine(content, console)
    elif isinstance(content, QuantPlan):
        _show_plan(content, console)
    else:
        show_table(content, console)


def show_engines(outcomes: Sequence[EngineOutcome], console: Console) -> None:
    """Show which engines were built, and why others were not."""
    for outcome in outcomes:
        if outcome.file is None:
            _say(console, f"{outcome.backend}: {outcome.detail}", mark="Engine  [yellow]not built[/] ")
        else:
            built = f"{outcome.file}  {file_size(outcome.bytes)} in {outcome.seconds:.1f} s  ({outcome.detail})"
            _say(console, built, mark="Engine  [green]built[/] ")


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


def _show_manifest(manifest: Manifest, console: Console) -> None:
    facts = _plain_table()
    facts.add_row("Model", escape(f"{manifest.name}, {len(manifest.labels)} labels"))
    facts.add_row("Checks", "passed when it was made" if manifest.passed else "[red]failed when it was made[/]")
    height, width = manifest.preprocessing.input_size
    facts.add_row(
        "Images",
        f"{height} x {width}, {manifest.preprocessing.interpolation}, crop {manifest.preprocessing.crop_pct:g},"
        f" mean {manifest.preprocessing.mean}, std {manifest.preprocessing.std}",
    )
    facts.add_row("Tools", escape(", ".join(f"{name} {version}" for name, version in manifest.tools.items())))
    console.print(facts, highlight=False)
    table = _table("File", "Precision", "Input", "Runs on", "Size")
    for graph in manifest.graphs:
        options = ", ".join(f"{name}={value}" for name, value in graph.session_options.items())
        runs_on = f"onnxruntime ({options})" if options else "any ONNX runtime"
        size = file_size(manifest.files[graph.file].bytes)
        table.add_row(escape(graph.file), escape(graph.precision), graph.input, escape(runs_on), size)
    for engine in manifest.engines:
        runs_on = ", ".join([engine.backend, *(f"{key} {value}" for key, value in engine.requirements.items())])
        size = file_size(manifest.files[engine.file].bytes)
        table.add_row(escape(engine.file), escape(engine.precision), engine.input, escape(runs_on), size)
    console.print(table)
    _show_signature(manifest.graphs[0].signature, console)
    _show_lineage(manifest.graphs[-1].lineage, console)
    for warning in manifest.warnings:
        _say(console, warning, mark="[yellow]![/] ")


def _show_graph(graph: GraphDescription, console: Console) -> None:
    _say(console, f"{file_size(graph.bytes)}, opset {graph.opset}, SHA-256 {graph.digest}")
    _show_signature(graph.signature, console)
    table = _table("Operator", "Nodes")
    for operator, count in graph.operators.items():
        table.add_row(escape(operator), str(count))
    console.print(table)
    if graph.attention:
        forms = _table("Attention", "Form", "C", "Heads", "Positions", "MACs before", "after", "Why")
        for record in graph.attention:
            forms.add_row(
                escape(record.path),
                record.form,
                str(record.channels),
                str(record.heads),
                str(record.positions),
                f"{record.macs_before / 1e6:.2f} M",
                f"{record.macs_after / 1e6:.2f} M",
                escape(record.reason),
            )
        console.print(forms)
    weights = ", ".join(f"{dtype} {file_size(size)}" for dtype, size in graph.weights.items())
    _say(console, f"Weights  {weights}")
    for key, value in graph.metadata.items():
        _say(console, f"{key}  {value}")


def _show_engine(record: EngineRecord, console: Console) -> None:
    facts = _plain_table()
    facts.add_row("Built by", escape(f"{record.backend} {record.version}"))
    facts.add_row("Runs on", f"compute capability {record.target.describe()} {record.target.platform}")
    facts.add_row("Precision", escape(record.precision.detail))
    facts.add_row("Size", file_size(record.bytes))
    facts.add_row("From graph", f"SHA-256 {record.onnx_digest}")
    console.print(facts, highlight=False)
    _show_signature(record.signature, console)
    _show_lineage(record.lineage, console)


def _show_plan(plan: QuantPlan, console: Console) -> None:
    table = _table("Layer", "Type", "INT8", "Reads", "Scale", "Why")
    scales = {decision.tensor: decision.scale for decision in plan.tensors}
    for node in plan.nodes:
        scale = scales.get(node.data)
        shown = "" if scale is None or not node.quantize else f"{scale:.4g}"
        table.add_row(
            escape(node.node), node.op_type, _tick(node.quantize), escape(node.data), shown, escape(node.reason)
        )
    console.print(table)
    source = "synthetic images" if plan.synthetic else "images"
    console.print(
        f"{len(plan.quantized_nodes)} of {len(plan.nodes)} layers become INT8; ranges from {plan.image_count} {source}",
        highlight=False,
    )


def _show_signature(signature: ModelSignature, console: Console) -> None:
    for title, tensors in (("Input ", signature.inputs), ("Output", signature.outputs)):
        for tensor in tensors:
            _say(console, f"{title}  {tensor.describe()}")


def _show_lineage(lineage: Lineage, console: Console) -> None:
    _say(console, "Made by  " + " -> ".join(step.stage for step in lineage))
