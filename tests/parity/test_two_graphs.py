"""Two graphs alone: a derived one is proven against its parent and a plan, wherever the files lie."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.choices import Precision
from linglos_deploy.codec import from_json
from linglos_deploy.errors import UsageError
from linglos_deploy.parity.decisions import check_decisions
from linglos_deploy.quantization.plan import QuantPlan
from linglos_deploy.reports.parity import ParityReport
from linglos_deploy.verbs.check_parity import ParityRequest, check
from tests.parity.conftest import Digits
from tests.parity.faults.integer import INTEGER_FAULTS

pytestmark = pytest.mark.xdist_group("digits")

FAULTS = {str(fault): fault for fault in INTEGER_FAULTS}


def judged(digits: Digits, folder: Path, *, fault: str | None = None, plan: str | None = None) -> ParityReport:
    """Check the INT8 graph, faulty or not, beside nothing but its parent; ``plan`` goes to a folder of its own."""
    graph = onnx.load(digits.graph(Precision.INT8))
    faulty = graph if fault is None else FAULTS[fault].plant(graph)
    assert faulty is not None
    onnx.save(faulty, folder / "faulty.onnx")
    shutil.copyfile(digits.graph(Precision.FP32), folder / "parent.onnx")
    named = None
    if plan is not None:
        named = folder / "elsewhere" / "plan.json"
        named.parent.mkdir()
        named.write_text(plan)
    request = ParityRequest(
        folder / "faulty.onnx", reference=folder / "parent.onnx", data=digits.images, images=8, threads=1, plan=named
    )
    return check(request).reports[0]


def plan_text(digits: Digits) -> str:
    return (digits.bundles[Precision.INT8] / "plan.json").read_text()


def test_scales_that_are_consistent_but_wrong_need_the_plan_and_the_verdict_says_so(
    digits: Digits, tmp_path: Path
) -> None:
    without = judged(digits, tmp_path, fault="swapped_scales")
    assert without.passed
    assert any("--plan" in warning for warning in without.warnings)


@pytest.mark.parametrize("fault", ["swapped_scales", "scale_by_a_tenth", "scales_by_two"])
def test_with_a_plan_they_fail(digits: Digits, fault: str, tmp_path: Path) -> None:
    found = judged(digits, tmp_path, fault=fault, plan=plan_text(digits))
    assert not found.passed
    assert found.proof is not None
    assert found.proof.against_plan
    assert "as the plan says" in found.proof.differences[0].expected


def test_a_clean_graph_passes_with_its_plan(digits: Digits, tmp_path: Path) -> None:
    found = judged(digits, tmp_path, plan=plan_text(digits))
    assert found.passed
    assert not [warning for warning in found.warnings if "--plan" in warning]


def test_the_plan_of_another_graph_is_named_as_such(digits: Digits, tmp_path: Path) -> None:
    content = json.loads(plan_text(digits))
    content["graph_digest"] = "0" * 64
    found = judged(digits, tmp_path, plan=json.dumps(content))
    assert not found.passed
    assert [finding.name for finding in found.findings if finding.passed is False] == [
        "the plan was made for the float32 graph"
    ]


def test_the_plan_beside_the_reference_is_found(digits: Digits, tmp_path: Path) -> None:
    faulty = FAULTS["swapped_scales"].plant(onnx.load(digits.graph(Precision.INT8)))
    assert faulty is not None
    onnx.save(faulty, tmp_path / "faulty.onnx")
    reference = digits.bundles[Precision.INT8] / "model.onnx"
    request = ParityRequest(tmp_path / "faulty.onnx", reference=reference, data=digits.images, images=8, threads=1)
    assert not check(request).passed


def test_a_plan_needs_an_int8_graph_and_its_parent_and_a_bundle_has_its_own(digits: Digits, tmp_path: Path) -> None:
    plan = digits.bundles[Precision.INT8] / "plan.json"
    graph, parent = digits.graph(Precision.INT8), digits.graph(Precision.FP32)
    for candidate, reference in ((parent, parent), (digits.graph(Precision.FP16), parent)):
        with pytest.raises(UsageError, match="about an INT8 graph"):
            check(ParityRequest(candidate, reference=reference, data=digits.images, plan=plan))
    with pytest.raises(UsageError, match="brings its own plan"):
        check(ParityRequest(graph.parent, plan=plan))


@pytest.mark.parametrize(("bound", "expected"), [(1.0, True), (1 + 1e-5, False), (0.5, False)])
def test_a_plan_must_follow_from_its_table(digits: Digits, bound: float, expected: bool) -> None:
    folder = digits.bundles[Precision.INT8]
    content, table = json.loads(plan_text(digits)), CalibrationTable.load(folder / "calibration.table")
    decision = next(found for found in content["tensors"] if found["quantize"])
    decision["bound"] *= bound
    plan = from_json(QuantPlan, json.dumps(content).encode(), source="test")
    assert [finding.passed for finding in check_decisions(plan, table, plan.graph_digest)] == [True, expected]
    assert [finding.passed for finding in check_decisions(plan, table, "0" * 64)] == [False, False]
    assert [finding.passed for finding in check_decisions(plan, None, plan.graph_digest)] == [True]


def test_a_table_that_lacks_a_tensor_is_not_the_plans(digits: Digits) -> None:
    plan = QuantPlan.load(digits.bundles[Precision.INT8] / "plan.json")
    table = CalibrationTable.load(digits.bundles[Precision.INT8] / "calibration.table")
    fewer = {name: seen for name, seen in table.tensors.items() if name != plan.quantized_tensors[-1].tensor}
    found = check_decisions(plan, replace(table, tensors=fewer), plan.graph_digest)
    assert [finding.passed for finding in found] == [True, False]
    assert "is not in the table" in found[1].found
