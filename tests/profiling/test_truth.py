"""Measurements of models whose latency is known: what is reported must be it, within 2 % or the interval."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from linglos_deploy.errors import UsageError
from linglos_deploy.profiling import blocks
from linglos_deploy.profiling import measure as module
from linglos_deploy.profiling.blocks import Measurement
from linglos_deploy.profiling.measure import measure
from linglos_deploy.profiling.plan import Candidate, MeasurementPlan
from linglos_deploy.reports.profile import Finding, ProfileReport, ProfileRow
from tests.backends.graphs import saturating_graph
from tests.profiling.local import Clock, use_scripted_models

SIX = MeasurementPlan(processes=6, seed=1)


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> partial[Candidate]:
    """Make candidates whose latency is an expression."""
    use_scripted_models(monkeypatch)
    return partial(Candidate, "scripted", saturating_graph(tmp_path / "model.onnx").path)


def alone(scripted: partial[Candidate], script: str, plan: MeasurementPlan = SIX) -> ProfileRow:
    return measure([scripted(options={"script": script})], plan).rows[0]


def pair(scripted: partial[Candidate], one: str, other: str, plan: MeasurementPlan = SIX) -> ProfileReport:
    return measure(
        [scripted(label="one", options={"script": one}), scripted(label="other", options={"script": other, "seed": 1})],
        plan,
    )


@pytest.mark.parametrize(
    ("script", "median"),
    [
        ("10", 10.0),
        ("random.normal(10, 0.2)", 10.0),
        ("10 * np.exp(random.normal(0, 0.05)) + random.exponential(0.1)", 10.07),
        ("10 * (1 + 0.05 * random.pareto(1.5))", 10 * (1 + 0.05 * (2 ** (1 / 1.5) - 1))),
        ("0.02", 0.02),
        ("400", 400.0),
    ],
    ids=["constant", "normal", "skewed", "heavy tail", "very fast", "slow"],
)
def test_the_median_is_the_true_one_within_two_percent_or_its_interval(
    scripted: partial[Candidate], script: str, median: float
) -> None:
    latency = alone(scripted, script).latency
    assert latency is not None
    assert latency.low is not None
    assert latency.high is not None
    assert latency.p50 == pytest.approx(median, rel=0.02) or latency.low <= median <= latency.high
    assert latency.processes == 6


def test_two_modes_are_named(scripted: partial[Candidate]) -> None:
    row = alone(scripted, "random.choice([10, 15]) * np.exp(random.normal(0, 0.01))")
    assert any("two modes: runs take" in note for note in row.notes)
    assert not any("drift" in note for note in row.notes)


def test_drift_of_the_machine_is_named_and_leaves_ratios_alone(scripted: partial[Candidate]) -> None:
    getting_slower = "{} * (1 + now / 20_000) * np.exp(random.normal(0, 0.01))"
    _, row = pair(scripted, getting_slower.format(10), getting_slower.format(12)).rows
    assert any("drift: +" in note and "last process" in note for note in row.notes)
    assert row.ratio is not None
    assert row.ratio.low is not None
    assert row.ratio.value == pytest.approx(1.2, rel=0.01)
    assert row.ratio.finding is Finding.SLOWER


def test_a_model_that_gets_faster_is_timed_only_once_it_is_steady(scripted: partial[Candidate]) -> None:
    row = alone(scripted, "10 * (1 + 2 * np.exp(-run / 10))")
    assert row.steady is True
    assert row.latency is not None
    assert row.latency.maximum < 10.3
    never = alone(scripted, "10 * 0.99 ** run + 1", MeasurementPlan(processes=6, warmup_seconds=0.5))
    assert never.steady is False
    assert any("still falling" in note for note in never.notes)


def test_outliers_are_counted_and_kept(scripted: partial[Candidate]) -> None:
    row = alone(scripted, "50 if run % 8 == 7 else random.normal(10, 0.1)")
    assert row.latency is not None
    assert row.latency.outliers.high_severe > 30
    assert row.latency.maximum == 50
    assert any("none was left out" in note for note in row.notes)


def test_one_file_under_two_names_shows_no_difference_although_processes_differ(scripted: partial[Candidate]) -> None:
    """The offset that a process has for life is one percent here; a single process each would be off by it for good."""
    script = "10 * np.exp(0.01 * np.random.default_rng([{}, process]).normal() + random.normal(0, 0.01))"
    found = [
        pair(scripted, *2 * (script.format(seed),), MeasurementPlan(processes=6, seed=seed, min_seconds=0))
        .rows[1]
        .ratio
        for seed in range(12)
    ]
    assert sum(ratio is not None and ratio.finding is Finding.NO_DIFFERENCE for ratio in found) >= 11


def test_planted_differences_are_found(scripted: partial[Candidate]) -> None:
    script = "{} * np.exp(0.005 * np.random.default_rng(process).normal() + random.normal(0, 0.02))"
    for factor, finding in ((1.05, Finding.SLOWER), (0.95, Finding.FASTER)):
        ratio = pair(scripted, script.format(10), script.format(10 * factor)).rows[1].ratio
        assert ratio is not None
        assert ratio.finding is finding


def test_more_processes_are_started_until_the_precision_is_reached(scripted: partial[Candidate]) -> None:
    script = "10 * np.exp(0.03 * np.random.default_rng(process).normal())"
    (row,) = measure([scripted(options={"script": script})], MeasurementPlan(precision_target=0.02, seed=0)).rows
    assert row.latency is not None
    assert row.latency.processes > 6
    (calm,) = measure([scripted()], MeasurementPlan(precision_target=0.02, seed=0)).rows
    assert calm.latency is not None
    assert calm.latency.processes == 6


def test_a_budget_ends_a_measurement_and_the_report_says_what_is_missing(
    scripted: partial[Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "time", type("Virtual", (), {"monotonic": staticmethod(lambda: Clock.now_ms / 1e3)}))
    monkeypatch.setattr(module.measure_group, "__kwdefaults__", {"clock": lambda: Clock.now_ms / 1e3})
    report = measure([scripted()], MeasurementPlan(budget_seconds=3, seed=0))
    row = report.rows[0]
    assert row.latency is not None
    assert 1 <= row.latency.processes < 5
    assert Clock.now_ms <= 3000
    assert any("they need 5 processes" in warning and "--budget" in warning for warning in report.warnings)
    assert measure([scripted()], MeasurementPlan(seed=0)).rows[0].latency.processes == 6  # type: ignore[union-attr]


def test_the_order_of_candidates_is_drawn_by_lot_and_the_seed_gives_the_same_order_again(
    scripted: partial[Candidate],
) -> None:
    def times(seed: int | None) -> tuple[object, int]:
        Clock.now_ms, Clock.opened = 0.0, 0
        report = pair(scripted, "now % 97 + 1", "now % 89 + 1", MeasurementPlan(processes=3, seed=seed))
        return [row.samples_ms for row in report.rows], report.method.seed

    first, seed = times(None)
    assert times(seed) == (first, seed)
    assert times(seed + 1)[0] != first


def test_candidates_take_turns_in_both_orders_round_by_round(
    scripted: partial[Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[str] = []
    take_turn = blocks._round

    def noted(item: Measurement, *others: Any) -> None:
        turns.append(item.candidate.label)
        take_turn(item, *others)

    monkeypatch.setattr(blocks, "_round", noted)
    pair(scripted, "1", "1", MeasurementPlan(processes=3, seed=1))
    in_a_block = [{tuple(turns[place : place + 2]) for place in range(start, start + 8, 2)} for start in (0, 8, 16)]
    assert set.union(*in_a_block) == {("one", "other"), ("other", "one")}  # never one of them twice
    assert any(len(orders) == 2 for orders in in_a_block)


def test_what_was_asked_of_the_number_of_processes_cannot_contradict_itself() -> None:
    for more in ({"precision_target": 0.02}, {"budget_seconds": 10.0}):
        with pytest.raises(UsageError, match="leaves nothing to a precision or a budget"):
            MeasurementPlan(processes=6, **more)  # type: ignore[arg-type]
