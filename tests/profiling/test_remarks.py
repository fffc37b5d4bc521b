from __future__ import annotations

from dataclasses import replace

from linglos_deploy.profiling.remarks import add_remarks, precision_warnings
from linglos_deploy.profiling.statistics import summarize
from linglos_deploy.reports.profile import Conditions, Finding, Method, Outcome, ProfileRow, Ratio

NO_VNNI = Conditions(instructions=("avx2",), physical_cores=2, load_before=0.0)
VNNI = replace(NO_VNNI, instructions=("avx2", "avx512_vnni"))
METHOD = Method(None, 4, 12, 0.6, 3.0, 0.02, None, 0.01, 0.95, 0)


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
        latency=summarize([[[milliseconds] * runs] * 2] * 5),
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
    noisy = replace(row("fp32", 10), latency=summarize([[[1.0] * 100 + [9.0] * 20]]))
    assert "noisy" in notes(noisy)


def test_a_row_that_was_not_measured_gets_no_remark() -> None:
    absent = replace(row("int8", 1), latency=None, outcome=Outcome.NOT_RUN)
    assert notes(absent) == ""
    assert precision_warnings([absent], METHOD) == ()


def test_outliers_are_counted_by_kind_and_said_to_be_kept() -> None:
    quiet = [10.0, 11.0, 12.0] * 8
    some = replace(row("fp32", 1), latency=summarize([[[*quiet, 16.0, 19.0, 19.0]]]))
    assert "3 of 27 runs are outliers (1 slower, 2 much slower); none was left out" in notes(some)


def test_cpus_that_do_not_fit_the_threads_are_said() -> None:
    assert "used 1.9 CPUs although 1 were asked for" in notes(replace(row("fp32", 10), cpu_use=1.9))
    assert "had a CPU for 40% of the time" in notes(replace(row("fp32", 10), cpu_use=0.4))
    assert notes(replace(row("fp32", 10), cpu_use=0.99)) == ""
    assert notes(replace(row("fp32", 10), cpu_use=1.9, threads=0)) == ""


def test_a_process_that_was_not_warm_is_said() -> None:
    assert "still falling" in notes(replace(row("fp32", 10), steady=False))
    assert notes(replace(row("fp32", 10), steady=None)) == ""


def test_too_few_processes_and_a_precision_that_was_not_reached_are_warnings_with_the_option_to_change() -> None:
    few = replace(row("fp32", 1), latency=summarize([[[10.0] * 9]] * 4))
    assert "they need 5 processes of each candidate, and there were 4" in precision_warnings([few], METHOD)[0]
    assert "--budget" in precision_warnings([few], METHOD)[0]
    assert "--processes" in precision_warnings([few], replace(METHOD, processes=4, precision_target=None))[0]
    wide = replace(row("int8", 1), ratio=Ratio("fp32", 1.0, 0.95, 1.05, 0.95, Finding.NO_DIFFERENCE, 6))
    (warning,) = precision_warnings([row("fp32", 1), wide], METHOD)
    assert "precision of 2.0% was not reached for onnxruntime int8 (worst: 5.0%)" in warning
    narrow = replace(wide, ratio=Ratio("fp32", 1.0, 0.99, 1.01, 0.95, Finding.NO_DIFFERENCE, 6))
    assert precision_warnings([row("fp32", 1), narrow], METHOD) == ()
