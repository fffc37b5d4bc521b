"""Reports for the terminal. The command line prints what this module returns; nothing here prints."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from linglos_deploy.reports.document import Section, Table, Tone, all_sections, printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table as RichTable
    from rich.text import Text
_STYLES = {Tone.NEUTRAL: "", Tone.GOOD: "green", Tone.BAD: "bold red", Tone.MUTED: "dim"}


def renderables(reports: Iterable[object], *, details: bool = True, width: int = 100) -> list[RenderableType]:
    """Return what to give to a rich console's ``print``, one after the other.

    Args:
        reports: Values of any registered report types.
        details: Whether to show every table, note and condition; else the verdict, the warnings and the first table.
        width: Columns of the terminal; columns of a table that matter less are left out if it is too narrow.
    """
    return [part for section in all_sections(reports) for part in _section(section, details=details, width=width)]


def to_text(reports: Iterable[object], *, details: bool = True, width: int = 100) -> str:
    """Return reports as plain text without colours.

    Args:
        reports: Values of any registered report types.
        details: As for :func:`renderables`.
        width: Columns of the terminal.
    """
    from rich.console import Console

    written = io.StringIO()
    console = Console(file=written, width=width, color_system=None, highlight=False)
    for part in renderables(reports, details=details, width=width):
        console.print(part)
    return written.getvalue()


def fit(table: Table, width: int) -> Table:
    """Leave out minor columns, the last one first, until the table fits into ``width`` characters or none is left."""
    while _width(table) > width:
        minor = [index for index, column in enumerate(table.columns) if column.minor]
        if not minor:
            break
        table = _without(table, minor[-1])
    return table


def _width(table: Table) -> int:
    cells = zip(*table.rows, strict=True) if table.rows else ((),) * len(table.columns)
    longest = (
        max([len(column.title), *(len(cell.text) for cell in texts)])
        for column, texts in zip(table.columns, cells, strict=True)
    )
    return sum(longest) + 3 * len(table.columns)


def _without(table: Table, index: int) -> Table:
    rows = tuple((*row[:index], *row[index + 1 :]) for row in table.rows)
    return Table(table.title, (*table.columns[:index], *table.columns[index + 1 :]), rows)


def _section(section: Section, *, details: bool, width: int) -> list[RenderableType]:
    parts: list[RenderableType] = [_heading(section)]
    if section.summary:
        parts.append(_plain(section.summary))
    parts += [_plain(f"warning: {warning}", style="yellow") for warning in section.warnings]
    tables = [table for table in section.tables if table.rows]
    parts += [_table(fit(table, width)) for table in (tables if details else tables[:1])]
    if details:
        parts += [_plain(f"- {note}", style="dim") for note in section.notes]
        parts += [_plain(f"{name}: {value}", style="dim") for name, value in section.facts]
    parts.append(_plain(""))
    return parts


def _heading(section: Section) -> Text:
    heading = _plain(section.title, style="bold")
    if section.passed is not None:
        heading.append("  ")
        heading.append("✓ passed" if section.passed else "✗ failed", style="green" if section.passed else "bold red")
    return heading


def _table(table: Table) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable

    shown = RichTable(title=_plain(table.title, style="dim"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        side: Literal["left", "right"] = "right" if column.numeric else "left"
        shown.add_column(_plain(column.title), justify=side, no_wrap=column.numeric, overflow="fold")
    for row in table.rows:
        shown.add_row(*(_plain(cell.text, style=_STYLES[cell.tone]) for cell in row))
    return shown


def _plain(text: str, *, style: str = "") -> Text:
    from rich.text import Text

    return Text(printable(text), style=style)
