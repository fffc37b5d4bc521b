"""The page of a file: a bundle brings its own, and every other kind is described on one."""

from __future__ import annotations

import tempfile
from pathlib import Path

from linglos_deploy import descriptions
from linglos_deploy.bundle import MANIFEST
from linglos_deploy.inspection import describe
from linglos_deploy.kinds import Kind
from linglos_deploy.reports.html import write_html

assert descriptions  # registered how each kind of file looks

REPORT = Path("reports", "report.html")


def page_of(subject: Path) -> Path:
    """Return the HTML page of a file or bundle; one is written into a temporary folder where none comes with it.

    Raises:
        LinglosError: The file cannot be read, or is of no kind that can be described.
    """
    bundle = subject.parent if subject.name == MANIFEST else subject
    if (bundle / MANIFEST).is_file() and (bundle / REPORT).is_file():
        return bundle / REPORT
    page = Path(tempfile.mkdtemp(prefix="linglos-"), f"{subject.resolve().name}.html")
    write_page(subject, page)
    return page


def write_page(subject: Path, page: Path) -> None:
    """Write the page of a file: what 'inspect' says of it, a table with a histogram of every tensor.

    Raises:
        LinglosError: The file cannot be read, or is of no kind that can be described.
        OutputError: The page cannot be written.
    """
    found = describe(subject)
    if found.kind is Kind.TABLE:
        from linglos_deploy.calibration.table import CalibrationTable

        write_html([CalibrationTable.load(subject)], page, title=subject.name)
    else:
        write_html([found], page, title=subject.name)
