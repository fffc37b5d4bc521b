"""Outputs whose rows have no fixed order are compared part by part, each held to limits of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from linglos_deploy.choices import Precision
from linglos_deploy.parity.recording import record
from linglos_deploy.parity.verdict import Criteria, check_parity
from linglos_deploy.reports.parity import ParityReport
from linglos_deploy.tasks.kinds.detect.view import pair_detections

IMAGES = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
ROWS = np.array([[0, 0, 400, 300, 0.9, 0], [410, 0, 800, 300, 0.6, 1], [0, 310, 400, 600, 0.3, 1]], np.float32)


def rows_of(images: np.ndarray) -> np.ndarray:
    return ROWS + 0.01 * images[:, None, :1] * np.array([1, 1, 1, 1, 1, 0], np.float32)


def check(tmp_path: Path, runner: Any, answer: Any, *, trained: bool = True) -> ParityReport:
    wanted = record(runner(boxes=rows_of), [{"image": IMAGES}], out=tmp_path / "reference")
    criteria = Criteria.for_precision(Precision.INT8, trained=False)
    criteria = criteria.with_views({"boxes": pair_detections}, trained=trained)
    return check_parity(wanted, runner(boxes=answer), criteria, batches=[{"image": IMAGES}])


def failed(report: ParityReport) -> list[str]:
    return [output.output for output in report.outputs if not output.passed]


def test_rows_in_another_order_pass(tmp_path: Path, runner: Any) -> None:
    report = check(tmp_path, runner, lambda images: rows_of(images)[:, ::-1])
    assert report.passed
    assert [output.output for output in report.outputs] == ["boxes.boxes", "boxes.scores", "boxes.found"]


def test_wrong_scores_are_not_hidden_by_large_boxes(tmp_path: Path, runner: Any) -> None:
    def wrong(images: np.ndarray) -> np.ndarray:
        rows = rows_of(images).copy()
        rows[..., 4] = 0.5
        return rows

    report = check(tmp_path, runner, wrong)
    assert failed(report) == ["boxes.scores"]
    whole = 10 * np.log10((rows_of(IMAGES) ** 2).sum() / ((wrong(IMAGES) - rows_of(IMAGES)) ** 2).sum())
    assert whole > 40  # as one tensor it would have passed


@pytest.mark.parametrize(("trained", "failing"), [(True, ["boxes.found"]), (False, [])])
def test_objects_that_are_missing_fail_where_the_choice_is_no_chance(
    tmp_path: Path, runner: Any, trained: bool, failing: list[str]
) -> None:
    def without_the_last(images: np.ndarray) -> np.ndarray:
        rows = rows_of(images).copy()
        rows[:, 2, :4] = [900, 900, 950, 950]
        return rows

    assert failed(check(tmp_path, runner, without_the_last, trained=trained)) == failing
