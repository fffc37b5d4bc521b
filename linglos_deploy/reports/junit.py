"""Verdicts as JUnit XML: one suite a report, one test case a criterion. Every CI system shows these.

There is no one standard. What is written here satisfies the strictest form in use, that of Ant's JUnit task, and that
of Jenkins' xUnit plugin: no attributes on the root, an ``id``, a ``package``, a time and a host on every suite, and its
properties, cases and streams in this order, empty ones included.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from linglos_deploy.files import atomic_file
from linglos_deploy.reports.document import Check, Section, all_sections, printable

HOST = "localhost"
"""What the format asks for where a host is not known; a verdict is about a model, not about a machine."""


def write_junit(reports: Iterable[object], path: Path, *, name: str = "linglos-deploy") -> None:
    """Render reports and write them, whole or not at all.

    Raises:
        OutputError: ``path`` cannot be written.
    """
    with atomic_file(path) as partial:
        partial.write_text(to_junit(reports, name=name, when=datetime.now(timezone.utc)), encoding="utf-8")


def to_junit(reports: Iterable[object], *, when: datetime, name: str = "linglos-deploy") -> str:
    """Render the verdicts of reports as JUnit XML.

    A report that checks nothing has no suite. What could not be checked on this machine, or cannot be told, is a
    skipped test case.

    Args:
        reports: Values of any registered report types.
        when: When the checks were made.
        name: The package of all suites.
    """
    root = ET.Element("testsuites")
    judged = [section for section in all_sections(reports) if section.passed is not None or section.checks]
    root.extend(_suite(section, number, package=name, when=when) for number, section in enumerate(judged))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _suite(section: Section, number: int, *, package: str, when: datetime) -> ET.Element:
    checks = section.checks or (Check("verdict", section.passed, section.summary, "passed"),)
    suite = ET.Element(
        "testsuite",
        {
            "id": str(number),
            "package": _token(package),
            "name": _token(section.title),
            "timestamp": when.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S"),
            "hostname": HOST,
            "tests": str(len(checks)),
            "failures": str(sum(check.passed is False for check in checks)),
            "errors": "0",
            "skipped": str(sum(check.passed is None for check in checks)),
            "time": "0",
        },
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in section.facts:
        ET.SubElement(properties, "property", {"name": _token(name), "value": printable(value)})
    suite.extend(_case(check, section) for check in _told_apart(checks))
    ET.SubElement(suite, "system-out").text = printable("\n".join([section.summary, *section.notes]))
    ET.SubElement(suite, "system-err").text = printable("\n".join(section.warnings))
    return suite


def _told_apart(checks: Sequence[Check]) -> list[Check]:
    """Number the checks that have one name: a CI system takes two cases of one name for one."""
    seen: Counter[str] = Counter()
    apart = []
    for check in checks:
        seen[check.name] += 1
        apart.append(replace(check, name=f"{check.name} ({seen[check.name]})") if seen[check.name] > 1 else check)
    return apart


def _case(check: Check, section: Section) -> ET.Element:
    case = ET.Element("testcase", {"classname": _token(section.title), "name": _token(check.name), "time": "0"})
    if check.passed is None:
        ET.SubElement(case, "skipped", {"message": printable(f"{check.found}; {check.limit}")})
    elif not check.passed:
        message = printable(f"found {check.found}, expected {check.limit}")
        failure = ET.SubElement(case, "failure", {"message": message, "type": "verdict"})
        failure.text = printable(f"{check.name}\nfound:    {check.found}\nexpected: {check.limit}")
    return case


def _token(text: str) -> str:
    """Return text as a token: on one line, without spaces around it, and not empty."""
    return " ".join(printable(text).split()) or "–"
