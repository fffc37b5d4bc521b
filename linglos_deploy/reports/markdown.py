"""Reports as GitHub-flavoured Markdown, for pull requests and job summaries."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from linglos_deploy.files import atomic_file
from linglos_deploy.reports.document import Section, Table, all_sections, overall, printable

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~#])")


def write_markdown(reports: Iterable[object], path: Path, *, title: str = "linglos-deploy report") -> None:
    """Render reports and write them, whole or not at all.

    Raises:
        OutputError: ``path`` cannot be written.
    """
    with atomic_file(path) as partial:
        partial.write_text(to_markdown(reports, title=title), encoding="utf-8")


def add_markdown(reports: Iterable[object], path: Path, *, title: str = "linglos-deploy report") -> None:
    """Render reports and write them behind what the file holds already, whole or not at all.

    Raises:
        OutputError: ``path`` cannot be written.
    """
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    with atomic_file(path) as partial:
        partial.write_text(before + to_markdown(reports, title=title), encoding="utf-8")


def to_markdown(reports: Iterable[object], *, title: str = "linglos-deploy report") -> str:
    """Render reports as Markdown.

    Args:
        reports: Values of any registered report types, in the order in which they shall stand.
        title: First heading.
    """
    sections = all_sections(reports)
    blocks = [f"# {_text(title)}{_verdict(overall(sections))}"]
    for section in sections:
        blocks += _section(section)
    return "\n\n".join(blocks) + "\n"


def _section(section: Section) -> list[str]:
    blocks = [f"## {_text(section.title)}{_verdict(section.passed)}"]
    if section.summary:
        blocks.append(_text(section.summary))
    blocks += [f"> **Warning:** {_text(warning)}" for warning in section.warnings]
    for table in section.tables:
        if table.rows:
            blocks += _titled(table)
    if section.notes:
        blocks.append("\n".join(f"- {_text(note)}" for note in section.notes))
    if section.facts:
        facts = "\n".join(f"- {_text(name)}: {_text(value)}" for name, value in section.facts)
        blocks.append(f"<details><summary>Conditions</summary>\n\n{facts}\n\n</details>")
    return blocks


def _titled(table: Table) -> list[str]:
    if table.folded:
        return [f"<details><summary>{_text(table.title)}</summary>\n\n{_table(table)}\n\n</details>"]
    return [f"### {_text(table.title)}", _table(table)]


def _table(table: Table) -> str:
    lines = [
        [_text(column.title) for column in table.columns],
        ["---:" if column.numeric else "---" for column in table.columns],
        *([_text(cell.text) for cell in row] for row in table.rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _verdict(passed: bool | None) -> str:
    if passed is None:
        return ""
    return ": ✓ passed" if passed else ": ✗ failed"


def _text(text: str) -> str:
    """Escape what Markdown would interpret, and keep it on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(printable(text).split()))
