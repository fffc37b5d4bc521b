"""What a person sees: every fact that matters is there, and data never acts as markup."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from linglos_deploy import screens
from linglos_deploy.calibration.registry import builtin_methods
from linglos_deploy.inspection import TableSummary, TensorSummary
from linglos_deploy.reports.doctor import Gpu
from linglos_deploy.reports.export import EngineOutcome
from tests.reports.examples import doctor_report, export_report, parity_report


def shown(render: Callable[[Any, Console], None], value: object) -> str:
    console = Console(width=240, record=True)
    render(value, console)
    return console.export_text()


def test_the_last_screen_of_a_failed_export_says_what_failed_and_where_it_lies() -> None:
    text = shown(screens.show_export, export_report())
    for fact in ("5.00 M parameters", "98.00 %", "-1.00", "FAIL  accuracy: largest loss 1.00 points, 0.5 accepted"):
        assert fact in text
    assert "Engine  built m.engine  1.0 MiB in 2.5 s" in text
    assert "Engine  not built tensorrt: not installed" in text
    assert "! random weights" in text
    assert "FAIL  bundle in build/linglo_s" in text


def test_a_passed_export_ends_with_pass() -> None:
    report = replace(export_report(), passed=True, accuracy=None, profile=None)
    assert shown(screens.show_export, report).rstrip().endswith("PASS  bundle in build/linglo_s")


def test_a_criterion_that_does_not_hold_is_named_with_its_limit() -> None:
    text = shown(screens.show_parity, [parity_report(decibels=12.0)])
    assert "FAIL" in text
    assert "limit" in text


@pytest.mark.parametrize("width", [60, 80, 240])
def test_a_narrow_parity_table_cuts_no_figure_and_no_verdict(width: int) -> None:
    console = Console(width=width, record=True)
    report = parity_report(decibels=12.3)
    named = tuple(replace(output, output="logits") for output in report.outputs)
    report = replace(report, candidate="model.int8+fp16.onnx", outputs=named)
    screens.show_parity([report], console)
    text = console.export_text()
    assert "…" not in text
    assert "12.3 dB" in text
    assert "FAIL" in text.split("against")[0]
    assert ("Too narrow for: Count" in text) is (width < 240)
    assert max(map(len, text.split("against")[0].splitlines()[:-1])) <= width


def test_doctor_shows_conditions_and_how_to_rebuild() -> None:
    text = shown(screens.show_doctor, doctor_report())
    assert "does not load here" in text
    assert "plans load with their own version only" in text
    assert "rebuild: linglos-deploy build" in text
    assert "get it: pip install tensorrt" in text


def test_doctor_without_a_gpu_says_why_and_with_one_names_it() -> None:
    report = doctor_report()
    machine = replace(report.machine, gpus=(), gpu_detail="no driver", memory_bytes=None)
    text = shown(screens.show_doctor, replace(report, machine=machine))
    assert "none (no driver)" in text
    assert "unknown memory" in text
    machine = replace(report.machine, gpus=(Gpu(0, "RTX 1", "8.9", 8 << 30),), driver="580", cuda="13.0")
    assert "RTX 1, compute capability 8.9, 8 GiB" in shown(screens.show_doctor, replace(report, machine=machine))


@pytest.mark.parametrize("name", ["[bold]x[/bold]", "[/nonsense]", "a[red]b"])
def test_names_with_brackets_are_shown_as_they_are(name: str) -> None:
    outcome = EngineOutcome("tensorrt", None, "model.onnx", 0.0, 0, name)
    assert name in shown(screens.show_engines, [outcome])
    assert name in shown(screens.show_parity, [replace(parity_report(), candidate=name)])
    doctor = doctor_report()
    assert name in shown(screens.show_doctor, replace(doctor, machine=replace(doctor.machine, cpu=name)))
    summary = TensorSummary(name, -1.0, 1.0, 0.0, 0.5, 0, dict.fromkeys(builtin_methods(), 1.0))
    table = TableSummary("00", "00", 3, of_images=True, synthetic=True, tools={}, tensors=(summary,))
    assert name in shown(screens.show_described, table)
