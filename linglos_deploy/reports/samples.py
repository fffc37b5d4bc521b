"""Every timed run of a profile as CSV, for tables and statistics of one's own."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from linglos_deploy.files import atomic_file
from linglos_deploy.reports.document import printable
from linglos_deploy.reports.profile import ProfileReport

COLUMNS = (
    "candidate",
    "backend",
    "artifact",
    "precision",
    "batch",
    "height",
    "width",
    "threads",
    "process",
    "round",
    "run",
    "milliseconds",
)


def write_csv(report: ProfileReport, path: Path) -> None:
    """Write a line for every timed run, whole or not at all; what could not be measured has none.

    Processes, rounds and runs count from 1, in the order in which they were timed. Height and width are empty where the
    input is no image.

    Raises:
        OutputError: ``path`` cannot be written.
    """
    with atomic_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(COLUMNS)
        lines.writerows(_lines(report))


def _lines(report: ProfileReport) -> Iterator[tuple[object, ...]]:
    for row in report.rows:
        names = (printable(text) for text in (row.label, row.backend, row.artifact, row.precision))
        of_row = (*names, row.batch, *(row.image_size or ("", "")), row.threads)
        for process, rounds in enumerate(row.samples_ms, 1):
            for turn, samples in enumerate(rounds, 1):
                for run, milliseconds in enumerate(samples, 1):
                    yield (*of_row, process, turn, run, milliseconds)
