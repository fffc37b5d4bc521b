"""One self-contained HTML page for any list of reports: no scripts, no fonts, nothing from the network."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from linglos_deploy import __version__
from linglos_deploy.files import atomic_file
from linglos_deploy.reports.charts import draw, escape
from linglos_deploy.reports.document import Cell, Section, Table, all_sections, overall
from linglos_deploy.reports.style import STYLE


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
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
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
        f'<div class="charts">{charts}</div>' if charts else "",
        f'<div class="tables">{"".join(_table(table) for table in section.tables if table.rows)}</div>',
        _list("Notes", section.notes),
        _facts(section),
    ]
    return f'<section id="section-{number}">{"".join(parts)}</section>\n'


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col"{_numeric(column.numeric)}>{escape(column.title)}</th>' for column in table.columns)
    rows = "".join(
        "<tr>"
        + "".join(_cell(cell, numeric=column.numeric) for cell, column in zip(row, table.columns, strict=True))
        + "</tr>"
        for row in table.rows
    )
    return (
        f'<div><h3>{escape(table.title)}</h3><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{escape(table.title)}"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></div>'
    )


def _cell(cell: Cell, *, numeric: bool) -> str:
    classes = " ".join(name for name in ("number" if numeric else "", f"tone-{cell.tone}") if name)
    return f'<td class="{classes}">{escape(cell.text)}</td>'


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
