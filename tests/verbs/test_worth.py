"""The verdict on INT8 compares with float32 on the same runtime, and says when INT8 is slower."""

from __future__ import annotations

import numpy as np
import pytest

from linglos_deploy.profiling.statistics import summarize
from linglos_deploy.reports.export import Accuracy, AccuracyVerdict
from linglos_deploy.reports.profile import Conditions, Finding, Method, Outcome, ProfileReport, ProfileRow
from linglos_deploy.verbs.worth import Target, judge_targets
from tests.reports.examples import MACHINE

TARGETS = (Target("mine", "q.onnx", ("onnxruntime",)), Target("other", "v.onnx", ("openvino",)))
SIZES = {"m.onnx": 1000, "q.onnx": 270, "v.onnx": 300}


def row(backend: str, artifact: str, milliseconds: float, *, threads: int = 1, processes: int = 6) -> ProfileRow:
    random = np.random.default_rng(len(artifact) + len(backend))
    samples = tuple(
        tuple(tuple(float(ms) for ms in milliseconds * random.uniform(0.99, 1.01, 5)) for _ in range(2))
        for _ in range(processes)
    )
    return ProfileRow(
        label=f"{artifact} · {backend}",
        backend=backend,
        artifact=artifact,
        digest="0" * 64,
        precision="fp32" if artifact == "m.onnx" else "int8",
        batch=1,
        image_size=None,
        threads=threads,
        outcome=Outcome.MEASURED,
        latency=summarize(samples, confidence=0.95),
        samples_ms=samples,
    )


def profile(*rows: ProfileRow) -> ProfileReport:
    method = Method(None, 2, 4, 1.0, 3.0, 0.02, None, 0.01, 0.95, 0, 12.0)
    return ProfileReport(
        title="t",
        machine=MACHINE,
        conditions=Conditions((), 2, 0.0),
        method=method,
        rows=rows,
        checks=(),
        passed=True,
        warnings=(),
    )


def test_each_graph_is_compared_with_float32_on_its_own_runtime() -> None:
    rows = (
        row("onnxruntime", "m.onnx", 20.0),
        row("onnxruntime", "q.onnx", 12.0),
        row("openvino", "m.onnx", 30.0),
        row("openvino", "v.onnx", 15.0),
        row("openvino", "q.onnx", 1.0),  # a graph on a runtime that it is not made for says nothing
    )
    mine, other = judge_targets(TARGETS, reference="m.onnx", sizes=SIZES, profile=profile(*rows), accuracy=None)
    assert mine.ratio is not None
    assert other.ratio is not None
    assert mine.ratio.value == pytest.approx(0.6, rel=0.02)
    assert other.ratio.value == pytest.approx(0.5, rel=0.02)
    assert not mine.slower
    assert mine.sentence.startswith("mine: faster here; 0.60 [0.")
    assert mine.sentence.endswith("0.27 of the size, accuracy not measured (no labelled images).")


def test_slower_is_said_and_no_difference_is_no_gain() -> None:
    rows = (
        row("onnxruntime", "m.onnx", 20.0),
        row("onnxruntime", "q.onnx", 24.0),
        row("openvino", "m.onnx", 30.0),
        row("openvino", "v.onnx", 30.0),
    )
    mine, other = judge_targets(TARGETS, reference="m.onnx", sizes=SIZES, profile=profile(*rows), accuracy=None)
    assert mine.slower
    assert "SLOWER than float32 here" in mine.sentence
    assert other.ratio is not None
    assert other.ratio.finding is Finding.NO_DIFFERENCE
    assert "no faster than float32 here" in other.sentence


def test_what_was_not_measured_is_not_praised() -> None:
    accuracy = AccuracyVerdict(
        (
            Accuracy("PyTorch", "fp32", 90, 100),
            Accuracy("m.onnx", "fp32", 90, 100),
            Accuracy("q.onnx", "int8", 88, 100),
        ),
        None,
        2.0,
        passed=True,
    )
    rows = (row("onnxruntime", "m.onnx", 20.0, threads=2), row("onnxruntime", "q.onnx", 12.0, threads=1))
    for found in (None, profile(), profile(*rows)):
        mine, _ = judge_targets(TARGETS, reference="m.onnx", sizes=SIZES, profile=found, accuracy=accuracy)
        assert mine.ratio is None
        assert mine.sentence == "mine: speed not measured here; 0.27 of the size, +2.00 points of top-1 lost."
