"""A plan must belong to its graph and follow from its table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.parity.decisions import check_decisions
from linglos_deploy.quantization.plan import QuantPlan, plan_quantization
from linglos_deploy.quantization.scheme import QuantScheme
from tests.quantization.graphs import attention_model, calibrated

Case = tuple[QuantPlan, CalibrationTable]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder: Path = tmp_path_factory.mktemp("decisions")
    artifact, table = calibrated(attention_model(), folder / "m.onnx")
    return plan_quantization(artifact, table, QuantScheme()), table


def held(plan: QuantPlan, table: CalibrationTable | None, digest: str | None = None) -> list[bool | None]:
    return [found.passed for found in check_decisions(plan, table, digest or plan.graph_digest)]


def with_bound(plan: QuantPlan, share: float) -> QuantPlan:
    index = next(index for index, found in enumerate(plan.tensors) if found.bound is not None)
    tensors = list(plan.tensors)
    tensors[index] = replace(tensors[index], bound=share * float(tensors[index].bound or 0))
    return replace(plan, tensors=tuple(tensors))


def test_a_plan_that_follows_from_its_table_holds(case: Case) -> None:
    plan, table = case
    assert held(plan, table) == [True, True]
    assert held(plan, None) == [True]


@pytest.mark.parametrize("share", [1 + 1e-5, 1 - 1e-5, 1.1, 2.0])
def test_a_bound_that_the_method_does_not_find_is_told_of(case: Case, share: float) -> None:
    plan, table = case
    assert held(with_bound(plan, share), table) == [True, False]


def test_plan_and_table_of_another_graph_are_told_of(case: Case) -> None:
    plan, table = case
    other = "0" * 64
    assert held(plan, table, other) == [False, False]
    assert held(plan, replace(table, graph_digest=other)) == [True, False]
    assert held(replace(plan, graph_digest=other), table, plan.graph_digest) == [False, True]


def test_a_tensor_that_the_table_lacks_is_told_of(case: Case) -> None:
    plan, table = case
    gone = plan.quantized_tensors[-1].tensor
    fewer = replace(table, tensors={name: seen for name, seen in table.tensors.items() if name != gone})
    found = check_decisions(plan, fewer, plan.graph_digest)[1]
    assert (found.passed, found.found) == (False, f"'{gone}' is not in the table")


def test_a_bound_that_a_person_set_need_not_follow(case: Case) -> None:
    plan, table = case
    index = next(index for index, found in enumerate(plan.tensors) if found.bound is not None)
    tensors = list(plan.tensors)
    tensors[index] = replace(tensors[index], bound=1.5, method=None)
    assert held(replace(plan, tensors=tuple(tensors)), table) == [True, True]
