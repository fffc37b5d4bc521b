"""How a look at the machine looks: what it is, what each backend can do on it, and whether engines will load."""

from __future__ import annotations

from linglos_deploy.reports.doctor import DoctorReport, EngineCheck, GraphUse
from linglos_deploy.reports.document import Cell, Check, Column, Section, Table, Tone, sections_of
from linglos_deploy.reports.numbers import file_size


@sections_of.register
def doctor_sections(report: DoctorReport) -> tuple[Section, ...]:
    """One section: the machine, the backends, and every engine's conditions."""
    machine = report.machine
    facts = (
        ("system", machine.system),
        ("platform", machine.platform),
        ("Python", machine.python),
        ("CPU", f"{machine.cpu}; {machine.cpu_count} usable CPUs"),
        ("memory", file_size(machine.memory_bytes) if machine.memory_bytes else ""),
        ("GPU", ", ".join(f"{gpu.name} (compute capability {gpu.compute_capability})" for gpu in machine.gpus)),
        ("driver", machine.driver or ""),
        ("CUDA", machine.cuda or ""),
        ("GPU detail", machine.gpu_detail),
        ("Jetson", machine.jetson or ""),
    )
    return (
        Section(
            title="This machine",
            passed=report.passed if report.engines else None,
            facts=tuple((name, value) for name, value in facts if value),
            tables=(_backends_table(report), *map(_engine_table, report.engines), *map(_graph_table, report.graphs)),
            checks=tuple(
                Check(f"{check.engine}: {condition.name}", condition.passed, condition.found, condition.expected)
                for check in report.engines
                for condition in check.conditions
            ),
        ),
    )


def _backends_table(report: DoctorReport) -> Table:
    return Table(
        title="Backends",
        columns=(
            Column("backend"),
            Column("version"),
            Column("runs"),
            Column("compiles"),
            Column("detail", prose=True),
        ),
        rows=tuple(
            (
                Cell(state.name),
                Cell(state.version or "–"),
                _yes(state.runs),
                _yes(state.compiles),
                Cell(f"{state.detail}; {state.how_to_get}" if state.how_to_get else state.detail),
            )
            for state in report.backends
        ),
    )


def _engine_table(check: EngineCheck) -> Table:
    return Table(
        title=f"Engine {check.engine} for {check.backend}",
        columns=(
            Column("condition"),
            Column("found"),
            Column("expected"),
            Column("verdict"),
            Column("reason", prose=True),
        ),
        rows=tuple(
            (
                Cell(condition.name),
                Cell(condition.found),
                Cell(condition.expected),
                Cell("unknown", Tone.MUTED) if condition.passed is None else _verdict(condition.passed),
                Cell(condition.reason),
            )
            for condition in check.conditions
        ),
    )


def _graph_table(use: GraphUse) -> Table:
    offers = [("run", offer) for offer in use.runs] + [("be built", offer) for offer in use.builds]
    return Table(
        title=f"What could be done with {use.graph}",
        columns=(Column("could"), Column("with"), Column("here"), Column("why", prose=True), Column("how", prose=True)),
        rows=tuple(
            (
                Cell(verb),
                Cell(offer.backend),
                _yes(offer.possible),
                Cell(offer.detail),
                Cell(offer.command),
            )
            for verb, offer in offers
        ),
    )


def _yes(value: bool) -> Cell:
    return Cell("yes", Tone.GOOD) if value else Cell("no", Tone.MUTED)


def _verdict(passed: bool) -> Cell:
    return Cell("passed", Tone.GOOD) if passed else Cell("failed", Tone.BAD)
