"""Verdicts as JUnit XML: one suite a report, one test case a criterion. Every CI system shows these."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

from linglos_deploy.files import atomic_file
from linglos_deploy.reports.document import Check, Section, all_sections, printable


def write_junit(reports: Iterable[object], path: Path, *, name: str = "linglos-deploy") -> None:
    """Render reports and write them, whole or not at all.

    Raises:
        OutputError: ``path`` cannot be written.
    """
    with atomic_file(path) as partial:
        partial.write_text(to_junit(reports, name=name), encoding="utf-8")


def to_junit(reports: Iterable[object], *, name: str = "linglos-deploy") -> str:
    """Render the verdicts of reports as JUnit XML.

    A report without a verdict has no suite. What could not be checked on this machine is a skipped test case.

    Args:
        reports: Values of any registered report types.
        name: Of all suites together.
    """
    root = ET.Element("testsuites", {"name": printable(name)})
    suites = [_suite(section) for section in all_sections(reports) if section.passed is not None]
    root.extend(suites)
    for count in ("tests", "failures", "errors", "skipped"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in suites)))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _suite(section: Section) -> ET.Element:
    checks = section.checks or (Check("verdict", section.passed, section.summary, "passed"),)
    suite = ET.Element(
        "testsuite",
        {
            "name": printable(section.title),
            "tests": str(len(checks)),
            "failures": str(sum(check.passed is False for check in checks)),
            "errors": "0",
            "skipped": str(sum(check.passed is None for check in checks)),
            "time": "0",
        },
    )
    properties = ET.SubElement(suite, "properties") if section.facts else None
    if properties is not None:
        for name, value in section.facts:
            ET.SubElement(properties, "property", {"name": printable(name), "value": printable(value)})
    suite.extend(_case(check, section) for check in checks)
    if section.warnings:
        ET.SubElement(suite, "system-out").text = printable("\n".join(section.warnings))
    return suite


def _case(check: Check, section: Section) -> ET.Element:
    case = ET.Element("testcase", {"classname": printable(section.title), "name": printable(check.name), "time": "0"})
    if check.passed is None:
        ET.SubElement(case, "skipped", {"message": printable(check.found)})
    elif not check.passed:
        message = printable(f"found {check.found}, expected {check.limit}")
        failure = ET.SubElement(case, "failure", {"message": message, "type": "verdict"})
        failure.text = printable(f"{check.name}\nfound:    {check.found}\nexpected: {check.limit}")
    return case
