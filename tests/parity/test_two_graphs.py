"""Two graphs alone: a derived one is proven against its parent and a plan, wherever the files lie."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import onnx
import pytest

from linglos_deploy.bundle import open_bundle, seal_bundle
from linglos_deploy.choices import Precision
from linglos_deploy.errors import UsageError
from linglos_deploy.reports.parity import ParityReport
from linglos_deploy.verbs.check_parity import ParityRequest, check
from linglos_deploy.verbs.verdicts import SCALES
from tests.commandline import run
from tests.parity.conftest import Digits
from tests.parity.faults.integer import INTEGER_FAULTS

pytestmark = pytest.mark.xdist_group("digits")

FAULTS = {str(fault): fault for fault in INTEGER_FAULTS}


def judged(
    digits: Digits, folder: Path, *, fault: str | None = None, plan: str | None = None, **options: Any
) -> ParityReport:
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
        folder / "faulty.onnx",
        reference=folder / "parent.onnx",
        data=digits.images,
        images=8,
        threads=1,
        plan=named,
        **options,
    )
    return check(request).reports[0]


def plan_text(digits: Digits) -> str:
    return (digits.bundles[Precision.INT8] / "plan.json").read_text()


@pytest.mark.parametrize("fault", [None, "swapped_scales", "scale_by_a_tenth"])
def test_without_a_plan_nothing_can_tell_whether_scales_are_right_so_it_is_no_pass(
    digits: Digits, fault: str | None, tmp_path: Path
) -> None:
    found = judged(digits, tmp_path, fault=fault)
    assert (found.passed, found.undecided) == (False, True)
    (told,) = [finding for finding in found.findings if finding.undecided]
    assert told.passed is None
    assert "--plan" in told.expected


def test_what_fails_without_a_plan_is_a_failure_and_not_undecided(digits: Digits, tmp_path: Path) -> None:
    found = judged(digits, tmp_path, fault="q_scale_by_two")
    assert (found.passed, found.undecided) == (False, False)


def test_scales_may_be_taken_as_they_are_where_somebody_says_so(digits: Digits, tmp_path: Path) -> None:
    found = judged(digits, tmp_path, fault="scale_by_a_tenth", unplanned=True)
    assert (found.passed, found.undecided) == (True, False)
    assert any("--no-plan" in warning for warning in found.warnings)
    assert not judged(digits, tmp_path, fault="q_scale_by_two", unplanned=True).passed


def test_no_other_limits_make_an_int8_graph_without_a_plan_pass(digits: Digits, tmp_path: Path) -> None:
    limits = dict.fromkeys(("max_relative", "cosine", "worst_cosine", "sqnr_db", "variation_db", "group_db"))
    found = judged(digits, tmp_path, precision=Precision.FP16, limits=limits, layers=False)
    assert not found.passed


def test_a_bundle_that_lost_its_plan_is_undecided(digits: Digits, tmp_path: Path) -> None:
    shutil.copytree(digits.bundles[Precision.INT8], tmp_path / "bundle")
    manifest = open_bundle(tmp_path / "bundle").manifest
    (tmp_path / "bundle" / "plan.json").unlink()
    seal_bundle(tmp_path / "bundle", manifest)
    outcome = check(ParityRequest(tmp_path / "bundle", threads=1))
    told = {(report.candidate == "model.onnx", report.passed, report.undecided) for report in outcome.reports}
    assert told == {(True, True, False), (False, False, True)}
    assert (outcome.passed, outcome.undecided) == (False, True)


def test_the_command_says_that_it_cannot_tell_and_ends_with_5(digits: Digits, tmp_path: Path) -> None:
    shutil.copyfile(digits.graph(Precision.INT8), tmp_path / "alone.onnx")
    shutil.copyfile(digits.graph(Precision.FP32), tmp_path / "parent.onnx")
    command = ("parity", tmp_path / "alone.onnx", "--reference", tmp_path / "parent.onnx", "--data", digits.images)
    few = (*command, "--images", "8", "--threads", "1", "--junit", tmp_path / "parity.xml")
    shown = run(*few).expect(5).stdout
    assert "CANNOT TELL" in shown
    (suite,) = ET.parse(tmp_path / "parity.xml").getroot()
    skipped = [case.get("name") for case in suite.iter("testcase") if case.find("skipped") is not None]
    assert skipped == [SCALES]
    assert suite.get("failures") == "0"
    assert "CANNOT TELL" not in run(*few, "--no-plan").expect(0).stdout


@pytest.mark.parametrize("fault", ["swapped_scales", "scale_by_a_tenth", "scales_by_two"])
def test_with_a_plan_they_fail(digits: Digits, fault: str, tmp_path: Path) -> None:
    found = judged(digits, tmp_path, fault=fault, plan=plan_text(digits))
    assert not found.passed
    assert found.proof is not None
    assert found.proof.against_plan
    assert "as the plan says" in found.proof.differences[0].expected


def test_a_clean_graph_passes_with_its_plan(digits: Digits, tmp_path: Path) -> None:
    found = judged(digits, tmp_path, plan=plan_text(digits))
    assert (found.passed, found.undecided) == (True, False)
    assert not [finding for finding in found.findings if finding.undecided]


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


def test_no_plan_is_refused_where_there_is_nothing_to_leave_out(digits: Digits) -> None:
    graph, parent = digits.graph(Precision.INT8), digits.graph(Precision.FP32)
    with pytest.raises(UsageError, match="brings its own plan"):
        check(ParityRequest(graph.parent, unplanned=True))
    with pytest.raises(UsageError, match="Only an INT8 graph"):
        check(ParityRequest(parent, reference=parent, data=digits.images, unplanned=True))
    with pytest.raises(UsageError, match="or without one"):
        ParityRequest(graph, reference=parent, plan=graph.with_name("plan.json"), unplanned=True)
