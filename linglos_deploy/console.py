"""What a person at a terminal sees: progress, warnings and errors on stderr; stdout belongs to results."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars

    from linglos_deploy.errors import LinglosError
    from linglos_deploy.progress import Advance

SLOW_SECONDS = 1.0
"""A stage shorter than this leaves no line behind when stderr is not a terminal."""


class Terminal:
    """A :class:`linglos_deploy.progress.Progress` on stderr: bars on a terminal, one line a stage in a log."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._console: Console | None = None
        self._bars: Bars | None = None
        self._depth = 0

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """Show a stage while it runs and how long it took."""
        if self.quiet:
            yield lambda steps=1: None
            return
        console = self._stderr()
        started = time.monotonic()
        if not console.is_terminal:
            yield lambda steps=1: None
            seconds = time.monotonic() - started
            if seconds >= SLOW_SECONDS:
                console.print(f"{name}  {seconds:.1f} s", highlight=False, soft_wrap=True)
            return
        with self._live() as bars:
            task = bars.add_task(name, total=total)

            def advance(steps: int = 1) -> None:
                bars.advance(task, steps)

            yield advance
            bars.update(task, total=total or 1, completed=total or 1)

    def warn(self, message: str) -> None:
        """Print a warning, also when quiet."""
        self._stderr().print(f"[bold yellow]warning:[/] {_escape(message)}", highlight=False, soft_wrap=True)

    def error(self, error: LinglosError) -> None:
        """Print an error: what happened, found, expected, next step."""
        first, _, rest = str(error).partition("\n")
        console = self._stderr()
        console.print(f"[bold red]error:[/] {_escape(first)}", highlight=False, soft_wrap=True)
        if rest:
            console.print(_escape(rest), highlight=False, soft_wrap=True)

    def _stderr(self) -> Console:
        if self._console is None:
            from rich.console import Console

            self._console = Console(file=sys.stderr)
        return self._console

    @contextmanager
    def _live(self) -> Iterator[Bars]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        if self._bars is None:
            self._bars = Progress(
                SpinnerColumn(finished_text="[green]✓"),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=self._stderr(),
            )
        self._depth += 1
        if self._depth == 1:
            self._bars.start()
        try:
            yield self._bars
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._bars.stop()
                self._bars = None


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
