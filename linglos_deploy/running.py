"""What every command shares around its work: configuration before it, results and exit codes after it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from linglos_deploy.console import Terminal
from linglos_deploy.errors import LinglosError, OutputError

if TYPE_CHECKING:
    from rich.console import Console

VERDICT_FAILED = 1
STAGE_FAILED = 4
UNDECIDED = 5
INTERRUPTED = 130

AS_JSON = "linglos_deploy.as_json"
"""Key of a context's ``meta``: whether the result, or the error, is wanted as JSON."""

LOG_WIDTH = 120
"""Columns of a table that goes to a file or a pipe."""

NOT_CONFIGURATION = {"config", "save_config", "as_json", "quiet", "help"}
"""Parameters that a configuration file neither gives nor gets."""


@contextmanager
def exit_codes(*, as_json: bool) -> Iterator[None]:
    """Turn what a command raises into an exit code.

    Our own errors become a message and their exit code; Ctrl-C becomes 130; a reader that has gone is no failure;
    anything else is a bug and says so.
    """
    try:
        yield
    except LinglosError as error:
        show_error(error, as_json=as_json)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        typer.echo("Interrupted. Earlier output is untouched, and no partial file was left behind.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:  # the reader of stdout has gone, as in '... | head'
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except Exception as error:
        if os.environ.get("LINGLOS_DEBUG") or _is_usage(error):
            raise
        bug = LinglosError(
            "This is a bug in linglos-deploy.",
            found=f"{type(error).__name__}: {error}",
            next_step="run again with LINGLOS_DEBUG=1 and report the traceback",
        )
        show_error(bug, as_json=as_json)
        raise typer.Exit(STAGE_FAILED) from None


def _is_usage(error: Exception) -> bool:
    """Tell whether Typer handles an exception itself: wrong options, and ways to end the program."""
    return isinstance(error, typer.Exit | typer.Abort) or any(
        base.__name__ == "ClickException" for base in type(error).__mro__
    )


def load_config(ctx: typer.Context, file: Path | None) -> Path | None:
    """Make the options in a TOML file the defaults of this call; the callback of ``--config``."""
    from linglos_deploy.configfile import read_options

    if not ctx.resilient_parsing:
        known = {str(parameter.name) for parameter in ctx.command.params} - NOT_CONFIGURATION
        commands: Any = getattr(ctx.parent.command if ctx.parent else None, "commands", (ctx.info_name,))
        ctx.default_map = read_options(file, str(ctx.info_name), known, commands=list(commands))
    return file


def save_config(ctx: Any) -> None:
    """Write the options of this call, defaults and all, where ``--save-config`` says."""
    file = ctx.params.get("save_config")
    if file is not None:
        from linglos_deploy.configfile import write_options

        resolved = {name: value for name, value in ctx.params.items() if name not in NOT_CONFIGURATION}
        with naming("--save-config"):
            write_options(resolved, str(ctx.info_name), file)


def show(value: Any, render: Callable[[Any, Console], None], *, as_json: bool) -> None:
    """Put a result on stdout: for machines, or for people."""
    if as_json:
        print_json(value)
        return
    console = _stdout()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = max(console.width, LOG_WIDTH)
    render(value, console)


def _stdout() -> Console:
    from rich.console import Console

    class Stdout(Console):
        """Leaves it to :func:`exit_codes` what a reader that has gone means; Rich would call it a failure."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Stdout()


def show_error(error: LinglosError, *, as_json: bool) -> None:
    """Put an error on stderr, and for machines on stdout too."""
    Terminal().error(error)
    if as_json:
        fields = ("message", "found", "expected", "next_step", "exit_code")
        print_json({"error": {name: getattr(error, name) for name in fields}})


def print_json(value: Any) -> None:
    """Put a value on stdout as JSON."""
    from linglos_deploy.codec import to_json

    sys.stdout.write(to_json(value))
    sys.stdout.flush()


def write_reports(
    reports: Sequence[Any], *, html: Path | None, junit: Path | None = None, summary: Path | None = None
) -> None:
    """Write reports as files, where files were asked for; a summary is added to what its file holds."""
    if html is not None:
        from linglos_deploy.reports.html import write_html

        with naming("--html"):
            write_html(reports, html)
    if junit is not None:
        from linglos_deploy.reports.junit import write_junit

        with naming("--junit"):
            write_junit(reports, junit)
    if summary is not None:
        from linglos_deploy.reports.markdown import add_markdown

        with naming("--summary"):
            add_markdown(reports, summary)


def annotate(reports: Sequence[Any], *, file: Path) -> None:
    """Print annotations of a GitHub workflow run on stderr, which GitHub reads like stdout."""
    from linglos_deploy.reports.annotations import annotation_lines

    for line in annotation_lines(reports, file=file):
        typer.echo(line, err=True)


@contextmanager
def naming(option: str) -> Iterator[None]:
    """Let an error about a place to write to name the option that gave the place."""
    try:
        yield
    except OutputError as error:
        error.next_step = (error.next_step or "").replace("--output", option)
        raise
