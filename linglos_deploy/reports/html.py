"""One self-contained HTML page for any list of reports: no scripts, no fonts, nothing from the network."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from linglos_deploy import __version__
from linglos_deploy.files import atomic_file
from linglos_deploy.reports.charts import draw
from linglos_deploy.reports.document import Card, Cell, Column, Gallery, Section, Table, all_sections, overall
from linglos_deploy.reports.drawing import escape
from linglos_deploy.reports.style import STYLE

_PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+={0,2}")
"""What a report may put into a page; it may come from anywhere."""

_MOST_COLUMNS = 5
"""Columns that a phone shows side by side; of a wider table it shows every cell on a line, as it does of sentences."""


def write_html(reports: Iterable[object], path: Path, *, title: str = "linglos-deploy report") -> None:
    """Render reports and write the page, whole or not at all.

    Raises:
        OutputError: ``path`` cannot be written.
    """
    with atomic_file(path) as partial:
        partial.write_text(to_html(reports, title=title), encoding="utf-8")


def to_html(reports: Iterable[object], *, title: str = "linglos-deploy report") -> str:
    """Render reports as one page; the same reports give the same bytes.

    Args:
        reports: Values of any registered report types, in the order in which they shall stand.
        title: Heading of the page.
    """
    sections = all_sections(reports)
    navigation = "".join(
        f'<a href="#section-{number}">{_dot(section.passed)}{escape(section.title)}</a>'
        for number, section in enumerate(sections, 1)
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
{_badge(overall(sections))}
</header>
{f'<nav aria-label="Sections">{navigation}</nav>' if len(sections) > 1 else ""}
<main>
{"".join(_section(section, number) for number, section in enumerate(sections, 1))}
</main>
<footer>Made by linglos-deploy {escape(__version__)}</footer>
</body>
</html>
"""


def _section(section: Section, number: int) -> str:
    charts = "".join(draw(chart, name=f"chart-{number}-{index}") for index, chart in enumerate(section.charts, 1))
    parts = [
        f'<div class="title"><h2>{escape(section.title)}</h2>{_badge(section.passed)}</div>',
        f'<p class="summary">{escape(section.summary)}</p>' if section.summary else "",
        "".join(f'<p class="warning" role="note">{escape(text)}</p>' for text in section.warnings),
        _tables(table for table in section.tables if table.leading),
        f'<div class="charts">{charts}</div>' if charts else "",
        "".join(_gallery(gallery) for gallery in section.galleries if gallery.cards),
        _tables(table for table in section.tables if not table.leading),
        _list("Notes", section.notes),
        _facts(section),
    ]
    return f'<section id="section-{number}">{"".join(parts)}</section>\n'


def _gallery(gallery: Gallery) -> str:
    cards = "".join(_card(card) for card in gallery.cards)
    return f'<h3>{escape(gallery.title)}</h3><div class="gallery">{cards}</div>' + (
        f'<p class="caption">{escape(gallery.caption)}</p>' if gallery.caption else ""
    )


def _card(card: Card) -> str:
    shown = f'<img src="{card.picture}" alt="">' if _PICTURE.fullmatch(card.picture) else '<span class="blank"></span>'
    share = min(max(card.share, 0.0), 1.0)
    return (
        f'<article class="card">{shown}<div><p class="name" title="{escape(card.title)}">{escape(card.title)}</p>'
        f'<p class="answers"><span class="tone-good">{escape(card.before)}</span> <span aria-label="became">→</span> '
        f'<span class="tone-bad">{escape(card.after)}</span></p>'
        f'<svg class="margin" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="4"/><rect class="fill" width="{100 * share:.1f}" height="4"/></svg>'
        f'<p class="name">{escape(card.text)}</p></div></article>'
    )


def _tables(tables: Iterable[Table]) -> str:
    shown = "".join(_table(table) for table in tables if table.rows)
    return f'<div class="tables">{shown}</div>' if shown else ""


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col"{_numeric(column.numeric)}>{escape(column.title)}</th>' for column in table.columns)
    stacked = len(table.columns) > _MOST_COLUMNS or any(column.prose for column in table.columns)
    rows = "".join(
        "<tr>"
        + "".join(_cell(cell, column, named=stacked) for cell, column in zip(row, table.columns, strict=True))
        + "</tr>"
        for row in table.rows
    )
    shown = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}">'
        f"<table{_class('stacked' if stacked else '')}><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )
    title = escape(table.title)
    if table.folded:
        count = f"{len(table.rows)} row" + "s" * (len(table.rows) != 1)
        return f"<details><summary><h3>{title}</h3> <span>{count}</span></summary>{shown}</details>"
    return f"<div><h3>{title}</h3>{shown}</div>"


def _cell(cell: Cell, column: Column, *, named: bool) -> str:
    """Return a cell; ``named`` where a narrow page puts it on a line of its own, with its column's title."""
    classes = " ".join(name for name in ("number" if column.numeric else "", f"tone-{cell.tone}") if name)
    name = f' data-column="{escape(column.title)}"' if named and column.title else ""
    return f'<td class="{classes}"{name}>{escape(cell.text)}</td>'


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _numeric(numeric: bool) -> str:
    return ' class="number"' if numeric else ""


def _facts(section: Section) -> str:
    if not section.facts:
        return ""
    pairs = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in section.facts)
    return f'<h3>Conditions</h3><dl class="facts">{pairs}</dl>'


def _list(title: str, items: tuple[str, ...]) -> str:
    if not items:
        return ""
    return f"<h3>{escape(title)}</h3><ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def _badge(passed: bool | None) -> str:
    if passed is None:
        return ""
    return '<span class="badge good">✓ passed</span>' if passed else '<span class="badge bad">✗ failed</span>'


def _dot(passed: bool | None) -> str:
    if passed is None:
        return ""
    return f'<span class="dot {"good" if passed else "bad"}" aria-hidden="true"></span>'
