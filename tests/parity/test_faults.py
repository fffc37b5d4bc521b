"""Every planted fault fails the check of a bundle at its default criteria, and no clean graph does."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from linglos_deploy.choices import Precision
from linglos_deploy.reports.parity import ParityReport
from linglos_deploy.verbs.check_parity import ParityRequest, check
from tests.parity.conftest import Digits
from tests.parity.faults.floating import FLOAT_FAULTS
from tests.parity.faults.integer import INTEGER_FAULTS
from tests.parity.faults.planting import Fault

pytestmark = pytest.mark.xdist_group("digits")

LEAKS = [fault for fault in FLOAT_FAULTS if "leak" in str(fault)]
ALL = [
    (precision, fault)
    for precision in (Precision.INT8, Precision.INT8_FP16, Precision.FP16)
    for fault in (*FLOAT_FAULTS, *(INTEGER_FAULTS if precision.is_int8 else ()))
]


def judged(digits: Digits, precision: Precision, fault: Fault, folder: Path) -> ParityReport:
    faulty = fault.plant(onnx.load(digits.graph(precision)))
    if faulty is None:
        pytest.skip(f"{precision} graphs have no such weight; its INT8 form is among the INT8 faults")
    bundle = digits.with_graph(precision, faulty, folder / "bundle")
    outcome = check(ParityRequest(bundle, precision=precision, threads=1))
    assert outcome.passed == outcome.reports[0].passed
    return outcome.reports[0]


@pytest.mark.parametrize("precision", [*Precision])
def test_a_clean_bundle_passes(digits: Digits, precision: Precision) -> None:
    if precision is Precision.BF16:
        pytest.skip("the digits are not exported in bfloat16; the clean runs cover it")
    report = check(ParityRequest(digits.graph(precision).parent, precision=precision, threads=1)).reports[0]
    assert report.passed, [finding for finding in report.findings if finding.passed is False]
    made_up = {"extreme"} if precision is Precision.FP32 else set()  # the others are proven
    assert {output.images for output in report.outputs} == {"golden", "synthetic golden", *made_up}


@pytest.mark.usefixtures("no_identity")
@pytest.mark.parametrize("fault", FLOAT_FAULTS, ids=str)
def test_a_fault_in_a_float32_graph_is_measured(digits: Digits, fault: Fault, tmp_path: Path) -> None:
    assert not judged(digits, Precision.FP32, fault, tmp_path).passed


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8, Precision.INT8_FP16, Precision.FP16])
@pytest.mark.parametrize("fault", LEAKS, ids=str)
def test_a_leak_between_images_is_seen_by_the_place_in_a_batch(
    digits: Digits, fault: Fault, precision: Precision, tmp_path: Path
) -> None:
    report = judged(digits, precision, fault, tmp_path)
    assert "an image answers the same in any place of a batch" in {
        finding.name for finding in report.findings if finding.passed is False
    }


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "fault"), ALL, ids=str)
def test_a_fault_in_a_derived_graph_fails_its_bundle(
    digits: Digits, precision: Precision, fault: Fault, tmp_path: Path
) -> None:
    report = judged(digits, precision, fault, tmp_path)
    assert not report.passed
    assert report.proof is not None
    assert not report.proof.passed


def test_another_file_than_the_one_that_was_checked_is_named(digits: Digits, tmp_path: Path) -> None:
    graph = onnx.load(digits.graph(Precision.FP32))
    graph.doc_string = "harmless"
    bundle = digits.with_graph(Precision.FP32, graph, tmp_path / "bundle")
    report = check(ParityRequest(bundle, precision=Precision.FP32, threads=1)).reports[0]
    assert [finding.name for finding in report.findings if finding.passed is False] == [
        "it is the file that was checked when the bundle was made"
    ]
