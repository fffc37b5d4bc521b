"""JUnit XML that Ant's and Jenkins' schemas accept and other people's parsers read, whatever the reports hold."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import junitparser
import pytest
import xmlschema
from hypothesis import given
from hypothesis import strategies as st

from linglos_deploy.reports.document import Check, Section, all_sections, sections_of
from linglos_deploy.reports.junit import to_junit, write_junit
from linglos_deploy.reports.parity import Finding, StructuralDifference, StructuralProof
from tests.reports.examples import (
    all_reports,
    doctor_report,
    export_report,
    layer_report,
    parity_report,
    profile_report,
)

WHEN = datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
SCHEMA = xmlschema.XMLSchema(str(Path(__file__).with_name("junit.xsd")))


class Held:
    """A report that is its sections."""

    def __init__(self, *sections: Section) -> None:
        self.sections = sections


@sections_of.register
def _(report: Held) -> tuple[Section, ...]:
    return report.sections


def suites_of(*reports: object) -> dict[str, junitparser.TestSuite]:
    """Return the suites as another program reads them, by name."""
    text = to_junit(reports, when=WHEN)
    SCHEMA.validate(text)
    parsed = junitparser.JUnitXml.fromstring(text.encode())
    return {suite.name: suite for suite in parsed}


def test_every_report_is_valid_and_can_be_read() -> None:
    text = to_junit(all_reports(), when=WHEN)
    SCHEMA.validate(text)
    judged = [section for section in all_sections(all_reports()) if section.passed is not None]
    assert len(list(junitparser.JUnitXml.fromstring(text.encode()))) == len(judged) > 4


texts = st.text(max_size=20)
checks = st.builds(Check, texts, st.sampled_from([True, False, None]), texts, texts)
facts = st.lists(st.tuples(texts, texts), max_size=3).map(tuple)
sections = st.builds(
    Section,
    title=texts,
    passed=st.sampled_from([True, False, None]),
    summary=texts,
    facts=facts,
    warnings=st.lists(texts, max_size=2).map(tuple),
    notes=st.lists(texts, max_size=2).map(tuple),
    checks=st.lists(checks, max_size=4).map(tuple),
)


@given(st.lists(sections, max_size=3), texts)
def test_any_text_at_any_place_is_valid(found: list[Section], name: str) -> None:
    text = to_junit([Held(*found)], name=name, when=WHEN)
    SCHEMA.validate(text)
    counted = junitparser.JUnitXml.fromstring(text.encode())
    assert len(list(counted)) == sum(section.passed is not None or bool(section.checks) for section in found)


def test_a_case_for_each_output_set_of_images_batch_and_proof_says_found_and_limit() -> None:
    report = parity_report()
    (output,) = report.outputs
    proof = StructuralProof(
        parent="model.onnx",
        candidate="model.int8.onnx",
        nodes=9,
        constants=3,
        weights=2,
        pairs=4,
        against_plan=True,
        differences=(StructuralDifference("conv1", "conv1", "scale", "0.25", "0.5"),),
    )
    findings = (
        Finding("an image answers the same in any place of a batch", False, "20.0 dB", "at least 90 dB"),
        Finding("engine m.engine", None, "not checked here: no GPU", "run 'x' on the target"),
    )
    outputs = tuple(replace(output, output="logits", images=images) for images in ("golden", "data"))
    report = replace(report, outputs=outputs, proof=proof, findings=findings, candidate="model.int8.onnx")
    suite = suites_of(report)["Parity of model.int8.onnx"]
    cases = {case.name: case for case in suite}
    for images in ("golden", "data"):
        assert len([name for name in cases if name.startswith(f"logits, {images}: ")]) == len(output.criteria)
    (failure,) = cases["logits, data: SQNR in dB"].result
    assert failure.message == "found 12.0, expected ≥ 20.0"
    assert "found:    12.0\nexpected: ≥ 20.0" in failure.text
    (proven,) = cases["structure: conv1: scale"].result
    assert proven.message == "found 0.5, expected 0.25"
    assert cases["structure follows from model.onnx and the quantization plan"].is_failure
    assert cases["an image answers the same in any place of a batch"].is_failure
    (skipped,) = cases["engine m.engine"].result
    assert isinstance(skipped, junitparser.Skipped)
    assert skipped.message == "not checked here: no GPU; run 'x' on the target"
    assert (suite.tests, suite.failures, suite.skipped, suite.errors) == (len(cases), 5, 1, 0)
    assert {entry.name: entry.value for entry in suite.properties()}["reference"] == "PyTorch"


def test_cases_of_one_name_are_told_apart() -> None:
    twice = Section("t", passed=False, checks=(Check("a", True, "1", "1"), Check("a", False, "2", "1")))
    assert [case.name for case in suites_of(Held(twice))["t"]] == ["a", "a (2)"]


def test_a_report_without_a_verdict_has_no_suite_and_one_without_criteria_has_a_case() -> None:
    assert suites_of(layer_report()) == {}
    bare = replace(export_report(), accuracy=None, parity=(), profile=None)
    (suite,) = suites_of(bare).values()
    assert (suite.tests, suite.failures) == (1, 1)


def test_what_could_not_be_told_is_skipped() -> None:
    (suite,) = suites_of(doctor_report()).values()
    assert (suite.tests, suite.failures, suite.skipped) == (2, 1, 1)


def test_a_latency_that_could_not_be_measured_is_no_failure() -> None:
    (suite,) = suites_of(profile_report()).values()
    assert suite.failures == 2


def test_a_suite_says_when_in_utc_without_a_zone(tmp_path: Path) -> None:
    there = WHEN.astimezone(timezone(timedelta(hours=5)))
    assert to_junit([parity_report()], when=there) == to_junit([parity_report()], when=WHEN)
    assert 'timestamp="2026-02-03T04:05:06"' in to_junit([parity_report()], when=WHEN)
    before = datetime.now(UTC).replace(microsecond=0)
    write_junit([parity_report()], tmp_path / "r.xml")
    (suite,) = ET.parse(tmp_path / "r.xml").getroot()
    written = datetime.fromisoformat(suite.attrib["timestamp"]).replace(tzinfo=UTC)
    assert before <= written <= datetime.now(UTC)


@pytest.mark.parametrize(
    "edit",
    [
        lambda root: root.set("tests", "1"),
        lambda root: root[0].attrib.pop("hostname"),
        lambda root: root[0].set("timestamp", "2026-02-03T04:05:06Z"),
        lambda root: root[0].remove(root[0].find("system-out")),
        lambda root: root[0].find("testcase").attrib.pop("classname"),
        lambda root: root[0].find("testcase").set("time", "1e-3"),
    ],
)
def test_the_schema_refuses_what_ant_or_jenkins_would(edit: object) -> None:
    root = ET.fromstring(to_junit([parity_report()], when=WHEN).encode())
    edit(root)  # type: ignore[operator]
    assert not SCHEMA.is_valid(ET.tostring(root, encoding="unicode"))
