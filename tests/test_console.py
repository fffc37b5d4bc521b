"""Progress, warnings and errors on stderr: bars on a terminal, lines in a log, nothing on stdout."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from linglos_deploy import console
from linglos_deploy.console import Terminal
from linglos_deploy.errors import UsageError


def terminal(monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool) -> tuple[Terminal, io.StringIO]:
    made, stream = Terminal(), io.StringIO()
    shown = Console(file=stream, force_terminal=is_terminal, width=100)
    monkeypatch.setattr(made, "_console", shown)
    return made, stream


def test_a_log_gets_one_line_for_a_long_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    made, stream = terminal(monkeypatch, is_terminal=False)
    clock = iter((0.0, 2.5))
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with made.stage("Exporting", 3) as advance:
        advance()
        advance(2)
    assert stream.getvalue() == "Exporting  2.5 s\n"


def test_a_log_gets_nothing_for_a_short_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    made, stream = terminal(monkeypatch, is_terminal=False)
    with made.stage("Exporting"):
        pass
    assert stream.getvalue() == ""


def test_a_terminal_gets_bars_also_for_stages_inside_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    made, stream = terminal(monkeypatch, is_terminal=True)
    with made.stage("Outer", 2) as outer:
        with made.stage("Inner") as inner:
            inner()
        outer(2)
    assert "Outer" in stream.getvalue()
    assert "Inner" in stream.getvalue()
    with made.stage("Later"):
        pass
    assert "Later" in stream.getvalue()


def test_bars_are_taken_down_when_a_stage_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = terminal(monkeypatch, is_terminal=True)
    with pytest.raises(ZeroDivisionError), made.stage("Failing"):
        raise ZeroDivisionError
    assert made._bars is None


def test_quiet_hides_stages_and_keeps_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    made = Terminal(quiet=True)
    with made.stage("Exporting", 1) as advance:
        advance()
    made.warn("careful with [bold]brackets[/]")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "warning: careful with [bold]brackets[/]\n")


def test_errors_are_printed_whole_and_never_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().error(UsageError("No [model].", found="[red]", expected="x" * 300, next_step="--model [a]"))
    Terminal().error(UsageError("Short."))
    err = capsys.readouterr().err
    assert err.startswith("error: No [model].\n  found:    [red]\n")
    assert "x" * 300 in err
    assert err.endswith("error: Short.\n")
