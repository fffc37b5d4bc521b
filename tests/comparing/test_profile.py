"""Two reports of latency, measured one after the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from linglos_deploy.codec import write_json
from linglos_deploy.comparing.compare import compare_paths
from linglos_deploy.comparing.tolerances import Tolerances
from linglos_deploy.errors import UsageError
from linglos_deploy.profiling.statistics import ratio_of_reports, summarize
from linglos_deploy.reports.comparison import ComparisonReport
from linglos_deploy.reports.profile import Outcome, ProfileReport, ProfileRow
from tests.commandline import run
from tests.reports.examples import MACHINE, profile_report

LIMIT = Tolerances(max_regression=0.05)


def samples(milliseconds: float, *, seed: int, spread: float = 0.005, processes: int = 6) -> list[list[list[float]]]:
    generator = np.random.default_rng(seed)
    times = milliseconds * np.exp(generator.normal(0, spread, (processes, 1, 1)))
    return (times * np.exp(generator.normal(0, 0.01, (processes, 4, 5)))).tolist()


def row(milliseconds: float, *, seed: int, spread: float = 0.005, processes: int = 6, label: str = "a") -> ProfileRow:
    found = samples(milliseconds, seed=seed, spread=spread, processes=processes)
    frozen = tuple(tuple(tuple(part) for part in rounds) for rounds in found)
    return ProfileRow(
        label=label,
        backend="onnxruntime",
        artifact="model.onnx",
        digest="00",
        precision="fp32",
        batch=1,
        image_size=(32, 32),
        threads=1,
        outcome=Outcome.MEASURED,
        latency=summarize(found),
        samples_ms=frozen,
    )


def report(*rows: ProfileRow) -> ProfileReport:
    return replace(profile_report(budget=None), rows=rows, warnings=())


def compared(
    tmp_path: Path, old: ProfileReport, new: ProfileReport, tolerances: Tolerances = LIMIT
) -> ComparisonReport:
    write_json(old, tmp_path / "old.json")
    write_json(new, tmp_path / "new.json")
    return compare_paths(tmp_path / "old.json", tmp_path / "new.json", tolerances)


@pytest.mark.parametrize(
    ("milliseconds", "spread", "passed", "undecided"),
    [(10.0, 0.005, True, False), (12.0, 0.005, False, False), (8.0, 0.005, True, False), (10.8, 0.04, True, True)],
)
def test_latency_is_held_against_the_limit_and_an_interval_across_it_cannot_tell(
    tmp_path: Path, milliseconds: float, spread: float, passed: bool, undecided: bool
) -> None:
    found = compared(tmp_path, report(row(10, seed=1, spread=spread)), report(row(milliseconds, seed=2, spread=spread)))
    assert (found.passed, found.undecided) == (passed, undecided)
    assert found.changes[0].passed is (None if undecided else passed)
    if undecided:  # the ratio alone would be a regression
        assert found.changes[0].new_value is not None
        assert found.changes[0].new_value > 10.5


def test_the_command_has_an_exit_code_for_each_of_the_three(tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    write_json(report(row(10, seed=1, spread=0.02)), old)
    for milliseconds, code in ((8.0, 0), (15.0, 1), (10.4, 5)):
        new = tmp_path / "new.json"
        write_json(report(row(milliseconds, seed=2, spread=0.02)), new)
        said = run("compare", old, new, "--max-regression", "5%").expect(code).stdout
    assert "cannot be told" in " ".join(said.split())


def test_too_few_processes_cannot_tell(tmp_path: Path) -> None:
    found = compared(tmp_path, report(row(10, seed=1)), report(row(20, seed=2, processes=3)))
    assert found.undecided
    assert "needs 5 processes" in found.changes[0].allowed


def test_without_a_limit_changes_are_told_and_not_judged(tmp_path: Path) -> None:
    found = compared(tmp_path, report(row(10, seed=1)), report(row(20, seed=2)), Tolerances())
    assert found.passed
    assert not found.undecided
    assert found.changes[0].passed is None
    assert "times" in found.changes[0].new


def test_what_is_no_longer_measured_is_worse_and_what_is_new_is_told(tmp_path: Path) -> None:
    broken = replace(row(10, seed=2), latency=None, samples_ms=(), outcome=Outcome.FAILED, reason="crashed")
    found = compared(tmp_path, report(row(10, seed=1)), report(broken, row(10, seed=3, label="b")))
    assert not found.passed
    assert found.changes[0].new == "crashed"
    assert found.changes[1].subject.startswith("b, ")


def test_that_the_two_were_measured_at_different_times_is_always_said(tmp_path: Path) -> None:
    old = replace(report(row(10, seed=1)), warnings=("The machine was busy.",))
    found = compared(tmp_path, old, report(row(10, seed=2)))
    assert "one after the other" in found.warnings[0]
    assert "old: The machine was busy." in found.warnings


def test_other_machines_and_reports_without_a_common_candidate_are_refused(tmp_path: Path) -> None:
    other = replace(report(row(10, seed=1)), machine=replace(MACHINE, cpu="another"))
    with pytest.raises(UsageError, match="different machines"):
        compared(tmp_path, report(row(10, seed=1)), other)
    with pytest.raises(UsageError, match="no candidate in common"):
        compared(tmp_path, report(row(10, seed=1)), report(row(10, seed=1, label="b")))


def test_the_interval_of_two_reports_holds_the_truth_as_often_as_it_says() -> None:
    held = 0
    for seed in range(200):
        new, old = samples(11, seed=2 * seed, spread=0.02), samples(10, seed=2 * seed + 1, spread=0.01, processes=9)
        ratio = ratio_of_reports(new, old, confidence=0.95)
        assert ratio is not None
        held += ratio.low <= 1.1 <= ratio.high
    assert 182 <= held <= 198
