from __future__ import annotations

from dataclasses import replace

from linglos_deploy.profiling.machine import warn_if_busy
from linglos_deploy.profiling.remarks import add_remarks, noise_warnings
from linglos_deploy.profiling.statistics import summarize
from linglos_deploy.reports.profile import Conditions, Outcome, ProfileRow

NO_VNNI = Conditions(instructions=("avx2",), physical_cores=2, load_before=0.0)
VNNI = replace(NO_VNNI, instructions=("avx2", "avx512_vnni"))


def row(precision: str, milliseconds: float, *, backend: str = "onnxruntime", runs: int = 100) -> ProfileRow:
    return ProfileRow(
        label=f"{backend} {precision}",
        backend=backend,
        artifact=f"model.{precision}.onnx",
        digest="",
        precision=precision,
        batch=1,
        image_size=(8, 8),
        threads=1,
        outcome=Outcome.MEASURED,
        latency=summarize([[milliseconds] * runs] * 2),
        options={"int8": "exact"},
    )


def notes(*rows: ProfileRow, conditions: Conditions = NO_VNNI) -> str:
    return " ".join(note for found in add_remarks(rows, conditions) for note in found.notes)


def test_int8_that_is_slower_than_float32_is_said_with_the_cpu_s_part_in_it() -> None:
    text = notes(row("fp32", 10), row("int8", 15))
    assert "INT8 is 1.50 times slower than float32 here" in text
    assert "no VNNI" in text
    assert "has avx512_vnni" in notes(row("fp32", 10), row("int8", 15), conditions=VNNI)


def test_the_int8_mode_is_named_where_the_backend_has_one() -> None:
    slow = row("int8", 15)
    assert "in the exact INT8 mode" in notes(row("fp32", 10), slow)
    assert "INT8 mode" not in notes(row("fp32", 10), replace(slow, options={}))


def test_int8_that_is_faster_or_has_nothing_to_compare_with_gets_no_remark() -> None:
    assert notes(row("fp32", 10), row("int8", 5)) == ""
    assert notes(row("int8", 15)) == ""
    assert notes(row("fp32", 10, backend="openvino"), row("int8", 15)) == ""


def test_noise_is_said() -> None:
    noisy = replace(row("fp32", 10), latency=summarize([[1.0] * 100 + [9.0] * 20]))
    assert "noisy" in notes(noisy)


def test_a_row_that_was_not_measured_gets_no_remark() -> None:
    absent = replace(row("int8", 1), latency=None, outcome=Outcome.NOT_RUN)
    assert notes(absent) == ""
    assert noise_warnings([absent]) == ()


def test_rounds_that_drift_are_a_warning() -> None:
    drifting = replace(row("fp32", 1), latency=summarize([[10.0] * 5, [14.0] * 5]))
    assert "changed by more than 25%" in noise_warnings([drifting])[0]
    assert noise_warnings([row("fp32", 1)]) == ()


def test_a_busy_machine_is_a_warning() -> None:
    assert "load average 1.00 on 2 CPUs" in warn_if_busy(replace(NO_VNNI, load_before=1.0), cpus=2)[0]
    assert warn_if_busy(replace(NO_VNNI, load_before=1.0), cpus=16) == ()
