from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from linglos_deploy.profiling.advice import what_next, what_to_ship
from linglos_deploy.profiling.statistics import summarize
from linglos_deploy.reports.export import Accuracy, AccuracyVerdict
from linglos_deploy.reports.parity import ParityReport
from linglos_deploy.reports.profile import Conditions, Outcome, ProfileReport, ProfileRow
from tests.reports.examples import parity_report, profile_report

FLOAT, INT8 = "model.onnx", "model.int8.onnx"


def row(artifact: str, backend: str, milliseconds: float, *, spread: float = 0.002, processes: int = 6) -> ProfileRow:
    generator = np.random.default_rng(hash_of(artifact + backend))
    times = milliseconds * np.exp(generator.normal(0, spread, (processes, 1, 1))) * np.ones((processes, 4, 3))
    samples = tuple(tuple(tuple(map(float, part)) for part in rounds) for rounds in times)
    return ProfileRow(
        label=f"{artifact} · {backend}",
        backend=backend,
        artifact=artifact,
        digest="00",
        precision="int8" if "int8" in artifact else "fp32",
        batch=1,
        image_size=(32, 32),
        threads=1,
        outcome=Outcome.MEASURED,
        latency=summarize(samples),
        samples_ms=samples,
    )


def hash_of(text: str) -> int:
    return sum(ord(letter) * place for place, letter in enumerate(text, 1))


def profile(*rows: ProfileRow) -> ProfileReport:
    return replace(profile_report(budget=None), rows=rows, conditions=Conditions((), 4, 0.0, usable_cpus=4.0))


def parity(candidate: str, *, passed: bool = True) -> ParityReport:
    return replace(parity_report(), candidate=candidate, passed=passed)


BOTH = (parity(FLOAT), parity(INT8))


def accuracy(int8: int, *, passed: bool = True) -> AccuracyVerdict:
    rows = (
        Accuracy("PyTorch", "fp32", 990, 1000),
        Accuracy(FLOAT, "fp32", 990, 1000),
        Accuracy(INT8, "int8", int8, 1000),
    )
    return AccuracyVerdict(rows, 0.5, (990 - int8) / 10, passed=passed)


def test_int8_that_is_measurably_faster_is_advised_with_its_gain_and_its_price() -> None:
    rows = (row(FLOAT, "onnxruntime", 10), row(FLOAT, "openvino", 9), row(INT8, "openvino", 5.4))
    said = what_to_ship(profile(*rows), BOTH, accuracy(989))
    assert said == (
        "On this CPU, with 1 thread a run, ship model.int8.onnx with OpenVINO: 0.60 of the time of model.onnx with "
        "OpenVINO. It loses 0.10 points of top-1."
    )


def test_int8_that_is_slower_is_not_advised_and_the_figure_says_why() -> None:
    said = what_to_ship(profile(row(FLOAT, "onnxruntime", 10), row(INT8, "onnxruntime", 14)), BOTH, None)
    assert "ship model.onnx with ONNX Runtime: int8 takes 1.40 of its time here." in said


def test_int8_that_is_not_measurably_faster_is_not_advised() -> None:
    rows = (row(FLOAT, "onnxruntime", 10, spread=0.1), row(INT8, "onnxruntime", 9.9, spread=0.1))
    said = what_to_ship(profile(*rows), BOTH, None)
    assert "ship model.onnx with ONNX Runtime: int8 is not measurably faster here" in said


@pytest.mark.parametrize(
    ("verdicts", "measured"), [((parity(FLOAT), parity(INT8, passed=False)), None), (BOTH, accuracy(900, passed=False))]
)
def test_what_failed_a_check_is_never_advised(
    verdicts: tuple[ParityReport, ...], measured: AccuracyVerdict | None
) -> None:
    said = what_to_ship(profile(row(FLOAT, "onnxruntime", 10), row(INT8, "onnxruntime", 1)), verdicts, measured)
    assert "ship model.onnx with ONNX Runtime" in said


def test_figures_that_support_no_advice_give_none() -> None:
    rows = (row(FLOAT, "onnxruntime", 10, processes=3), row(INT8, "onnxruntime", 5, processes=3))
    assert what_to_ship(profile(*rows), BOTH, None).startswith("No advice: 3 processes of each cannot tell")
    failed = (parity(FLOAT, passed=False), parity(INT8, passed=False))
    assert "nothing that was measured passed" in what_to_ship(profile(*rows), failed, None)


def test_accuracy_that_was_not_measured_is_said() -> None:
    rows = (row(FLOAT, "onnxruntime", 10), row(INT8, "onnxruntime", 5))
    assert "was not measured" in what_to_ship(profile(*rows), BOTH, None)


def test_the_next_commands_measure_what_was_not() -> None:
    found = what_next("build/x", profile(row(FLOAT, "onnxruntime", 10), row(FLOAT, "openvino", 9)))
    assert found[0] == "linglos-deploy profile build/x --backend onnxruntime --backend openvino --threads 4"
