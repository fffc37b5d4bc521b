"""Raw runs as CSV: every one of them, in order, read back as it was."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from linglos_deploy.errors import OutputError
from linglos_deploy.reports.profile import ProfileReport
from linglos_deploy.reports.samples import COLUMNS, write_csv
from tests.reports.examples import NASTY, profile_report

SAMPLES = (((8.25, 8.5), (8.0,)), ((9.125, 1 / 3), (7.0,)))


def report() -> ProfileReport:
    first, second, *others = profile_report().rows
    rows = (
        replace(first, samples_ms=SAMPLES, image_size=(160, 224)),
        replace(second, samples_ms=SAMPLES, image_size=None, batch=4),
    )
    return replace(profile_report(), rows=(*rows, *others))


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_timed_run_is_a_line_in_the_order_of_time(tmp_path: Path) -> None:
    write_csv(report(), tmp_path / "runs.csv")
    lines = read(tmp_path / "runs.csv")
    assert tuple(lines[0]) == COLUMNS
    assert len(lines) == 12
    places = [(line["process"], line["round"], line["run"]) for line in lines[:6]]
    assert places == [(p, *rest) for p in "12" for rest in (("1", "1"), ("1", "2"), ("2", "1"))]
    found = [float(line["milliseconds"]) for line in lines[:6]]
    assert found == [run for rounds in SAMPLES for samples in rounds for run in samples]


def test_a_line_says_what_ran_and_at_which_sizes(tmp_path: Path) -> None:
    write_csv(report(), tmp_path / "runs.csv")
    first, second = read(tmp_path / "runs.csv")[0], read(tmp_path / "runs.csv")[6]
    assert (first["candidate"], first["height"], first["width"], first["batch"]) == ("fp32", "160", "224", "1")
    assert (second["height"], second["width"], second["batch"], second["precision"]) == ("", "", "4", "int8")
    assert second["candidate"] == NASTY.replace("\x00", "\ufffd").replace("\x1b", "\ufffd")


def test_nothing_is_written_where_it_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_csv(report(), tmp_path / "file" / "runs.csv")
