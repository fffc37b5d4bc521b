from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from linglos_deploy.errors import UsageError
from linglos_deploy.kinds import candidates_by_path
from linglos_deploy.profiling.gate import counterparts, measure_with_gate, outcome_of
from linglos_deploy.profiling.plan import Candidate, MeasurementPlan
from linglos_deploy.reports.document import all_sections
from linglos_deploy.reports.profile import (
    Finding,
    GateOutcome,
    Outcome,
    ProfileReport,
    Ratio,
    only_missing,
    only_undecided,
)
from tests.backends.graphs import saturating_graph
from tests.profiling.local import use_scripted_models

OFFSETS = "{} * np.exp(0.005 * np.random.default_rng(process).normal() + random.normal(0, 0.01))"


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> partial[Candidate]:
    """Make candidates whose latency is an expression."""
    use_scripted_models(monkeypatch)
    return partial(Candidate, "scripted", saturating_graph(tmp_path / "model.onnx").path)


def gated(scripted: partial[Candidate], old: str, new: str, **plan: object) -> ProfileReport:
    models = [
        [scripted(label="old", options={"script": old})],
        [scripted(label="new", options={"script": new, "seed": 1})],
    ]
    return measure_with_gate(models, MeasurementPlan(seed=3, **{"processes": 6, **plan}), limit=0.05)  # type: ignore[arg-type]


def test_a_model_as_fast_as_the_old_one_passes(scripted: partial[Candidate]) -> None:
    report = gated(scripted, OFFSETS.format(10), OFFSETS.format(10))
    (check,) = report.gates
    assert (check.outcome, check.second, report.passed) == (GateOutcome.PASSED, None, True)
    assert all_sections([report])[0].passed is True


def test_a_regression_fails_once_a_second_measurement_confirms_it(scripted: partial[Candidate]) -> None:
    report = gated(scripted, OFFSETS.format(10), OFFSETS.format(12))
    (check,) = report.gates
    assert check.outcome is GateOutcome.REGRESSED
    assert check.second is not None
    assert check.second.value == pytest.approx(1.2, rel=0.02)
    assert not report.passed
    assert not only_undecided(report)
    assert all_sections([report])[0].passed is False
    assert "measured twice" in all_sections([report])[0].summary


def test_a_regression_that_the_second_measurement_does_not_confirm_is_no_finding(scripted: partial[Candidate]) -> None:
    """Processes 0 to 11 belong to the first measurement: there, and only there, the new model is slower."""
    report = gated(scripted, OFFSETS.format(10), OFFSETS.format("(12 if process < 12 else 10)"))
    (check,) = report.gates
    assert check.outcome is GateOutcome.CANNOT_TELL
    assert check.ratio is not None
    assert check.ratio.low is not None
    assert check.ratio.low > 1.05
    assert only_undecided(report)
    assert all_sections([report])[0].passed is None
    assert "a second measurement did not confirm" in all_sections([report])[0].summary


def test_an_interval_that_holds_the_limit_cannot_tell(scripted: partial[Candidate]) -> None:
    wide = "{} * np.exp(0.05 * np.random.default_rng(process).normal())"
    report = gated(scripted, wide.format(10), wide.format(10.5))
    assert report.gates[0].outcome is GateOutcome.CANNOT_TELL
    assert not report.passed
    assert only_undecided(report)
    assert "the interval holds the limit" in all_sections([report])[0].summary


def test_too_few_processes_cannot_tell(scripted: partial[Candidate]) -> None:
    report = gated(scripted, "10", "20", processes=2)
    assert report.gates[0].outcome is GateOutcome.CANNOT_TELL
    assert "too few processes" in all_sections([report])[0].summary


def test_a_new_model_that_breaks_is_a_failure_and_no_open_question(scripted: partial[Candidate]) -> None:
    report = gated(scripted, "10", "1 / 0")
    assert [row.outcome for row in report.rows] == [Outcome.MEASURED, Outcome.FAILED]
    assert report.gates[0].ratio is None
    assert not report.passed
    assert not only_undecided(report)
    assert not only_missing(report)


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.9, 1.05, GateOutcome.PASSED),
        (1.02, 1.06, GateOutcome.CANNOT_TELL),
        (1.051, 1.2, GateOutcome.REGRESSED),
        (None, None, GateOutcome.CANNOT_TELL),
    ],
)
def test_only_an_interval_on_one_side_of_the_limit_decides(
    low: float | None, high: float | None, outcome: GateOutcome
) -> None:
    assert outcome_of(Ratio("old", 1.0, low, high, 0.95, Finding.NO_DIFFERENCE, 6), 0.05) is outcome
    assert outcome_of(None, 0.05) is GateOutcome.CANNOT_TELL


def test_files_of_one_name_are_told_apart_by_their_folders_and_belong_together(tmp_path: Path) -> None:
    files = []
    for folder in ("main", "branch"):
        (tmp_path / folder).mkdir()
        files.append(saturating_graph(tmp_path / folder / "model.onnx").path)
    groups = candidates_by_path(files, ["onnxruntime", "openvino"])
    assert counterparts(groups) == [
        ("main/model.onnx · onnxruntime", "branch/model.onnx · onnxruntime"),
        ("main/model.onnx · openvino", "branch/model.onnx · openvino"),
    ]


def test_files_of_different_names_keep_short_labels(tmp_path: Path) -> None:
    files = [saturating_graph(tmp_path / name).path for name in ("a.onnx", "b.onnx")]
    assert [group[0].label for group in candidates_by_path(files, ["onnxruntime"])] == [
        "a.onnx · onnxruntime",
        "b.onnx · onnxruntime",
    ]


def test_a_gate_without_a_second_model_or_a_counterpart_is_refused(tmp_path: Path) -> None:
    one, other, third = (saturating_graph(tmp_path / name).path for name in ("a.onnx", "b.onnx", "c.onnx"))
    with pytest.raises(UsageError, match="holds new models against an old one"):
        counterparts([[Candidate("onnxruntime", one)]])
    with pytest.raises(UsageError, match="has no counterpart"):
        counterparts(
            [[Candidate("onnxruntime", one), Candidate("onnxruntime", other)], [Candidate("onnxruntime", third)]]
        )
