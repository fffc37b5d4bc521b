"""Reports of parity: what another machine or other images explain is accepted, what is more is a regression."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linglos_deploy.comparing.quality import MEASURES, compare_quality
from linglos_deploy.comparing.tolerances import Tolerances
from linglos_deploy.errors import UsageError
from linglos_deploy.parity.chance import share_allowed
from linglos_deploy.reports.comparison import Change
from linglos_deploy.reports.parity import Finding, ParityReport
from tests.commandline import run
from tests.comparing.examples import output, report, write


def worse(old: ParityReport, new: ParityReport, **drops: float) -> list[str]:
    changes = compare_quality([old], [new], Tolerances(drops))
    return [change.measure for change in changes if change.passed is False]


def after(**changed: Any) -> list[str]:
    return worse(report(), report(output(**changed)))


def test_the_same_report_is_no_regression() -> None:
    changes = list(compare_quality([report()], [report()], Tolerances()))
    assert [change.passed for change in changes] == [True] * len(changes)
    assert {change.measure for change in changes} == {
        "verdict",
        "SQNR, mean over images",
        "cosine",
        "top1_agreement",
        "top5_agreement",
    }


def test_on_the_same_images_int8_may_lose_what_another_machine_costs_and_no_more() -> None:
    assert after(sample_db_mean=38.6) == []
    assert after(sample_db_mean=38.4) == ["SQNR, mean over images"]


def test_on_other_images_the_spread_over_images_is_accepted_besides() -> None:
    spread = 3 * math.sqrt(2 * 2.0**2 / 100)
    assert after(inputs="others", sample_db_mean=40 - 1.5 - spread + 0.01) == []
    assert after(inputs="others", sample_db_mean=40 - 1.5 - spread - 0.01) == ["SQNR, mean over images"]
    assert after(inputs="", sample_db_mean=40 - 1.5 - spread + 0.01) == []  # unknown images are others


def test_a_cosine_may_lose_as_many_decibels_as_the_noise() -> None:
    assert after(cosine=1 - 1.4e-4) == []
    assert after(cosine=1 - 1.5e-4) == ["cosine"]


def test_float32_answers_that_are_as_good_as_equal_are_equal() -> None:
    def fp32(mean: float) -> ParityReport:
        return report(output(sample_db_mean=mean, cosine=1.0), precision="fp32")

    assert worse(fp32(145), fp32(116)) == []
    assert worse(fp32(145), fp32(114)) == ["SQNR, mean over images"]
    assert worse(fp32(100), fp32(89)) == []
    assert worse(fp32(100), fp32(87)) == ["SQNR, mean over images"]


def test_a_share_of_images_may_lose_what_chance_explains() -> None:
    assert after(top1_agreement=0.94) == []
    assert after(top1_agreement=0.92) == ["top1_agreement"]
    assert after(top5_agreement=0.93) == ["top5_agreement"]


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 10_000))
def test_more_images_explain_less(first: float, second: float, count: int) -> None:
    few = share_allowed((first, count), (second, count))
    many = share_allowed((first, 4 * count), (second, 4 * count))
    assert 0 < many <= few + 1e-12


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("sqnr_db", {"sample_db_mean": 39.4}),
        ("cosine", {"cosine": 0.99985}),
        ("worst_cosine", {"worst_cosine": 0.97}),
        ("top1_agreement", {"top1_agreement": 0.975}),
        ("kl_divergence", {"kl_divergence": 0.6}),
        ("max_abs", {"max_abs": 1.2}),
    ],
)
def test_a_tolerance_of_the_users_own_replaces_the_default(name: str, changed: dict[str, float]) -> None:
    before, now = report(), report(output(**changed))
    tight = {"cosine": 1e-6, "worst_cosine": 0.01, "top1_agreement": 0.01}.get(name, 0.5)
    (failed,) = worse(before, now, **{name: tight})
    assert name == failed or (name, failed) == ("sqnr_db", "SQNR, mean over images")
    assert worse(before, now, **{name: 2.0}) == []
    assert worse(before, now, **{name: math.inf}) == []


def test_what_is_no_longer_there_is_a_regression() -> None:
    old = report(output("boxes"), output("scores"))
    assert worse(old, report(output("boxes"))) == ["checked"]
    other = report(output(), candidate="model.onnx", precision="fp32")
    gone = [change for change in compare_quality([report(), other], [report()], Tolerances()) if change.passed is False]
    assert [change.subject for change in gone] == ["model.onnx"]


def test_what_is_new_is_told_and_not_judged() -> None:
    other = report(output(), candidate="model.onnx", precision="fp32")
    changes = list(compare_quality([report()], [report(), other], Tolerances()))
    assert Change("model.onnx", "checked", "no", "yes") in changes


def test_a_candidate_of_another_name_is_found_by_its_precision() -> None:
    assert worse(report(candidate="old.onnx"), report(output(sample_db_mean=10), candidate="new.onnx")) == [
        "SQNR, mean over images"
    ]


def test_a_verdict_that_turned_is_a_regression_and_one_that_was_bad_is_not() -> None:
    finding = Finding("places in a batch", False, "20 dB", "90 dB")
    assert worse(report(), report(passed=False, findings=(finding,))) == ["verdict", "places in a batch"]
    old = report(passed=False, findings=(finding,))
    assert worse(old, report(passed=False, findings=(finding,))) == []
    assert worse(old, report()) == []


def test_a_verdict_that_nothing_could_tell_and_now_fails_is_a_regression() -> None:
    open_one = report(
        passed=False, findings=(Finding("scales are as planned", None, "no plan", "a plan", undecided=True),)
    )
    failed = report(passed=False, findings=(Finding("scales are as planned", False, "0.2", "0.1"),))
    assert "verdict" in worse(open_one, failed)
    assert worse(open_one, open_one) == []


def test_reports_without_a_common_output_cannot_be_compared() -> None:
    with pytest.raises(UsageError, match="no output in common"):
        list(compare_quality([report(output("a"))], [report(output("b"))], Tolerances()))


def test_a_tolerance_of_nothing_that_is_measured_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "old")
    run("compare", path, path, "--max-drop", "cosin=1").explain(2, "cosin", *MEASURES)
    run("compare", path, path, "--max-drop", "sqnr_db=-1").expect(2, "sqnr_db")
    run("compare", path, path, "--max-drop", "sqnr_db").explain(2, "NAME=NUMBER")
    run("compare", path, path, "--max-growth", "5%").explain(2, "--max-growth")
    run("compare", path, path, "--max-growth", "much").explain(2, "--max-growth")


def test_the_exit_code_tells_a_regression_from_what_cannot_be_compared(tmp_path: Path) -> None:
    old, bad = write(tmp_path, "old"), write(tmp_path, "bad", report(output(sample_db_mean=10)))
    other = write(tmp_path, "other", report(output("boxes")))
    assert run("compare", old, old).expect(0).stdout
    answer = run("compare", old, bad, "--json").expect(1).json
    assert [change["measure"] for change in answer["changes"] if change["passed"] is False] == [
        "SQNR, mean over images"
    ]
    run("compare", old, other).explain(2, "no output in common")
    run("compare", old, tmp_path).expect(2)


def test_ci_gets_every_form_of_the_answer(tmp_path: Path) -> None:
    old, bad = write(tmp_path, "old"), write(tmp_path, "bad", report(output(sample_db_mean=10)))
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    done = run(
        *("compare", old, bad, "--annotate", "--summary", summary),
        *("--junit", tmp_path / "c.xml", "--html", tmp_path / "c.html"),
    ).expect(1)
    assert f"::error file={bad}" in done.stderr
    assert "SQNR, mean over images%3A" not in done.stderr  # a message keeps its colons
    assert summary.read_text().startswith("before\n# linglos-deploy report: ✗ failed")
    assert 'failures="1"' in (tmp_path / "c.xml").read_text()
    assert "Worse than allowed" in (tmp_path / "c.html").read_text()
    assert run("inspect", old).expect(0).stdout
