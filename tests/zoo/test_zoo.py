"""The zoo: ten architectures in every run, all of them through every stage in the slow job.

``python -m tests.zoo.report`` prints what the slow tests check as a table.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.zoo.entry import Entry
from tests.zoo.report import ZOO, as_expected
from tests.zoo.stages import Outcome, Stage, Visit

FAST = [entry for entry in ZOO if entry.fast]
PATIENCE = {Stage.FP32: 0.95}
"""Least share of the zoo that passes a stage; what is left is a stated limit."""


def _named(entries: list[Entry] | tuple[Entry, ...]) -> list[object]:
    return [pytest.param(entry, id=entry.name) for entry in entries]


def _check(entry: Entry, outcomes: list[Outcome]) -> None:
    wrong = [f"{outcome.stage}: {outcome.note}" for outcome in outcomes if not as_expected(entry, outcome)]
    assert not wrong, "\n".join(wrong)


def test_the_zoo_is_large_and_its_names_differ():
    assert len({entry.name for entry in ZOO}) == len(ZOO) >= 60
    assert len(FAST) >= 10


@pytest.mark.parametrize("entry", _named(FAST))
def test_an_architecture_becomes_a_float32_and_an_int8_graph_that_agree_with_it(entry: Entry, tmp_path: Path):
    pytest.importorskip("transformers", reason="pip install 'linglos-deploy[dev]'")
    visit = Visit(entry, tmp_path)
    _check(entry, [visit.run(stage) for stage in (Stage.FP32, Stage.INT8)])


@pytest.mark.slow
@pytest.mark.parametrize("entry", _named(ZOO))
def test_an_architecture_goes_through_every_stage_or_meets_the_limit_that_is_stated(entry: Entry, tmp_path: Path):
    pytest.importorskip("transformers", reason="pip install 'linglos-deploy[dev]'")
    visit = Visit(entry, tmp_path)
    _check(entry, [visit.run(stage) for stage in Stage])


@pytest.mark.parametrize("stage", PATIENCE)
def test_few_architectures_have_limits(stage: Stage):
    limited = [entry.name for entry in ZOO if stage in entry.limits]
    assert len(limited) <= (1 - PATIENCE[stage]) * len(ZOO), limited
