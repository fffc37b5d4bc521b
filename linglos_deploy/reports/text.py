"""Reports for the terminal. The command line prints what this module returns; nothing here prints."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from linglos_deploy.reports.document import Section, Table, Tone, all_sections, printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table as RichTable
    from rich.text import Text
_SHORTEST = 12
"""Characters that are left of a name in the narrowest terminal."""

_PROSE = 20
"""Characters that a column of sentences takes at least."""

_STYLES = {Tone.NEUTRAL: "", Tone.GOOD: "green", Tone.BAD: "bold red", Tone.MUTED: "dim"}


def renderables(
    reports: Iterable[object], *, details: bool = True, every_row: bool = True, width: int = 100
) -> list[RenderableType]:
    """Return what to give to a rich console's ``print``, one after the other.

    Args:
        reports: Values of any registered report types.
        details: Whether to show every table, note and condition; else the verdict, the warnings and the first table.
        every_row: Whether to show every row of a table; else those that matter first.
        width: Columns of the terminal; in one that is too narrow, columns that matter less are left out, and names are
            shortened in the middle. What was left out is said.
    """
    return [
        part
        for section in all_sections(reports)
        for part in _section(section, details=details, every_row=every_row, width=width)
    ]


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
    """Make a table fit into ``width`` characters.

    Minor columns are left out, the last one first; then names are shortened in the middle, the longest most. Sentences
    are wrapped by the renderer and need no more room than a few words; a word that is longer is shortened, too.
    """
    while _width(table) > width:
        minor = [index for index, column in enumerate(table.columns) if column.minor]
        if not minor:
            break
        table = _without(table, minor[-1])
    names = [index for index, column in enumerate(table.columns) if not (column.numeric or column.prose)]
    while _width(table) > width:
        widths = _widths(table)
        longest = max(names, key=lambda index: widths[index], default=None)
        if longest is None or widths[longest] <= _SHORTEST:
            break
        room = max(_SHORTEST, widths[longest] - (_width(table) - width))
        others = [widths[index] for index in names if index != longest and widths[index] < widths[longest]]
        table = _shortened(table, longest, max(room, *others) if others else room)
    return _with_whole_words(table, width)


def shorten(name: str, length: int) -> str:
    """Shorten a name in the middle, so that both of its ends can be told from others.

    >>> shorten("/features/block.3/conv/Conv_output_0", 20)
    '/features/…_output_0'
    """
    if len(name) <= length:
        return name
    head = length // 2
    return f"{name[:head]}…{name[len(name) - (length - head - 1) :]}"


def _widths(table: Table) -> list[int]:
    widths = []
    for index, column in enumerate(table.columns):
        longest = max([len(column.title), *(len(row[index].text) for row in table.rows)])
        widths.append(min(longest, _PROSE) if column.prose else longest)
    return widths


def _width(table: Table) -> int:
    return sum(_widths(table)) + 3 * len(table.columns)


def _without(table: Table, index: int) -> Table:
    rows = tuple((*row[:index], *row[index + 1 :]) for row in table.rows)
    return replace(table, columns=(*table.columns[:index], *table.columns[index + 1 :]), rows=rows)


def _with_whole_words(table: Table, width: int) -> Table:
    """Shorten the words of sentences that are wider than their column, which would be broken anywhere."""
    prose = [index for index, column in enumerate(table.columns) if column.prose]
    others = [taken for index, taken in enumerate(_widths(table)) if index not in prose]
    room = max((width - sum(others) - 3 * len(table.columns)) // max(len(prose), 1), _PROSE)
    for index in prose:
        texts = [" ".join(shorten(word, room) for word in row[index].text.split(" ")) for row in table.rows]
        rows = tuple(
            (*row[:index], replace(row[index], text=text), *row[index + 1 :])
            for row, text in zip(table.rows, texts, strict=True)
        )
        table = replace(table, rows=rows)
    return table


def _shortened(table: Table, index: int, length: int) -> Table:
    rows = tuple(
        (*row[:index], replace(row[index], text=shorten(row[index].text, length)), *row[index + 1 :])
        for row in table.rows
    )
    return replace(table, rows=rows)


def _section(section: Section, *, details: bool, every_row: bool, width: int) -> list[RenderableType]:
    parts: list[RenderableType] = [_heading(section)]
    if section.summary:
        parts.append(_plain(section.summary))
    parts += [_plain(f"warning: {warning}", style="yellow") for warning in section.warnings]
    tables = [table for table in section.tables if table.rows]
    for table in tables if details else tables[:1]:
        shown = table if every_row or table.first is None else replace(table, rows=table.rows[: table.first])
        fitting = fit(shown, width)
        parts.append(_table(fitting))
        parts += [_plain(said, style="dim") for said in _left_out(table, fitting)]
    if details:
        parts += [_plain(f"- {note}", style="dim") for note in section.notes]
        parts += [_plain(f"{name}: {value}", style="dim") for name, value in section.facts]
    parts.append(_plain(""))
    return parts


def _left_out(table: Table, shown: Table) -> list[str]:
    """Say what of a table is not there."""
    said = []
    if hidden := len(table.rows) - len(shown.rows):
        said.append(f"… and {hidden} more rows; --all shows them.")
    titles = [column.title for column in shown.columns]
    if missing := [column.title for column in table.columns if column.title not in titles]:
        said.append(f"Too narrow for: {', '.join(missing)}.")
    return said


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
    wraps = any(column.prose for column in table.columns)
    for column in table.columns:
        side: Literal["left", "right"] = "right" if column.numeric else "left"
        whole = column.numeric or (wraps and not column.prose)
        shown.add_column(_plain(column.title), justify=side, no_wrap=whole, overflow="fold")
    for row in table.rows:
        shown.add_row(*(_plain(cell.text, style=_STYLES[cell.tone]) for cell in row))
    return shown


def _plain(text: str, *, style: str = "") -> Text:
    from rich.text import Text

    return Text(printable(text), style=style)
