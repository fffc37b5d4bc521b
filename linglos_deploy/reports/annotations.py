"""Verdicts as annotations of a GitHub workflow run: one line a failed check, which the run shows beside its log.

The form is that of workflow commands, ``::error file=…,title=…::message``
(https://docs.github.com/actions/reference/workflow-commands-for-github-actions).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from linglos_deploy.reports.document import Section, all_sections, printable

MOST = 10
"""Annotations of one kind that GitHub shows of a step."""


def annotation_lines(reports: Iterable[object], *, file: Path) -> Iterator[str]:
    """Return an error for each check that failed, and a warning for each warning.

    Args:
        reports: Values of any registered report types.
        file: What the checks are about, relative to the repository.
    """
    sections = all_sections(reports)
    errors = [(section.title, text) for section in sections for text in _failures(section)]
    warnings = [(section.title, text) for section in sections for text in section.warnings]
    for command, found in (("error", errors), ("warning", warnings)):
        shown = found if len(found) <= MOST else found[: MOST - 1]
        for title, text in shown:
            yield f"::{command} file={_property(file.as_posix())},title={_property(title)}::{_message(text)}"
        if len(shown) < len(found):
            yield f"::{command} file={_property(file.as_posix())}::{len(found) - len(shown)} more; see the log"


def _failures(section: Section) -> list[str]:
    failed = [check for check in section.checks if check.passed is False]
    if not failed and section.passed is False:
        return [section.summary or "failed"]
    return [f"{check.name}: found {check.found}, expected {check.limit}" for check in failed]


def _message(text: str) -> str:
    return printable(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
