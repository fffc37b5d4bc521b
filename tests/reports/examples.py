"""One report of each type, with text in it that is dangerous to every format."""

from __future__ import annotations

from linglos_deploy.profiling.statistics import summarize
from linglos_deploy.reports.doctor import Condition, DoctorReport, EngineCheck, Gpu, Machine, Probe
from linglos_deploy.reports.export import Accuracy, AccuracyVerdict, EngineOutcome, ExportReport
from linglos_deploy.reports.parity import (
    CriterionResult,
    LayerDifference,
    LayerReport,
    Metric,
    OutputMetrics,
    OutputParity,
    ParityReport,
    WorstSample,
)
from linglos_deploy.reports.profile import (
    BudgetCheck,
    ColdStart,
    Conditions,
    Finding,
    LayerProfile,
    LayerTime,
    Method,
    Outcome,
    ProfileReport,
    ProfileRow,
    Ratio,
)

NASTY = '<script>alert(1)</script> & "q" | `x` \x00\x1b[31m *b*'
MACHINE = Machine(
    system="Linux 6",
    platform="linux-x86_64",
    python="3.11.7",
    cpu=NASTY,
    cpu_count=2,
    memory_bytes=8 << 30,
    gpus=(Gpu(0, "RTX", "8.9", 1 << 30),),
)


def profile_report(*, budget: float | None = 10.0) -> ProfileReport:
    def row(label: str, milliseconds: float, precision: str, ratio: Ratio | None = None) -> ProfileRow:
        return ProfileRow(
            label=label,
            backend="onnxruntime",
            artifact=f"model.{precision}.onnx",
            digest="00",
            precision=precision,
            batch=1,
            image_size=(224, 224),
            threads=2,
            outcome=Outcome.MEASURED,
            latency=summarize([[[milliseconds, milliseconds * 1.1], [milliseconds, milliseconds * 1.2]]] * 5),
            throughput=1e3 / milliseconds,
            cold_start=ColdStart(50, 3),
            peak_rss_bytes=100 << 20,
            ratio=ratio,
            options={"int8": "exact"},
            versions={"onnxruntime": "1.32.0"},
            notes=(NASTY,),
            layers=LayerProfile(
                tuple(LayerTime(NASTY, "stem.0", f"Op{index}", "float32", 1.0, 1 / 14) for index in range(14)), 15.0
            ),
        )

    def absent(label: str, outcome: Outcome, reason: str) -> ProfileRow:
        return ProfileRow(label, "tensorrt", "model.engine", "", "", 1, None, 2, outcome, reason)

    rows = (
        row("fp32", 8.0, "fp32"),
        row(NASTY, 12.0, "int8", Ratio("fp32", 1.5, 1.45, 1.55, 0.95, Finding.SLOWER, 5)),
        row("faster", 4.0, "fp16", Ratio("fp32", 0.5, 0.45, 0.55, 0.95, Finding.FASTER, 5)),
        absent("trt", Outcome.NOT_RUN, "no GPU\nfound: none"),
        absent("bad", Outcome.FAILED, "crashed"),
    )
    checks = tuple(
        BudgetCheck(
            row.label,
            row.batch,
            row.threads,
            row.latency.p50 if row.latency else None,
            budget,
            row.latency is not None and row.latency.p50 <= budget,
        )
        for row in rows
        if budget is not None and row.outcome is not Outcome.NOT_RUN
    )
    return ProfileReport(
        title="Latency",
        machine=MACHINE,
        conditions=Conditions(("avx2",), 2, 1.5, usable_cpus=2.0),
        method=Method(None, 2, 4, 1.0, 3.0, 0.02, None, 0.01, 0.95, 0, 12.0),
        rows=rows,
        checks=checks,
        passed=all(check.passed for check in checks),
        warnings=("The machine was busy.",),
    )


def metrics(decibels: float) -> OutputMetrics:
    return OutputMetrics(64, 640, 0.5, 0.02, 0.001, 0.9991, 0.99, decibels, 0.98, 0, 0)


def parity_report(*, decibels: float = 12.0) -> ParityReport:
    criteria = (
        CriterionResult(Metric.SQNR_DB, decibels, 20.0, decibels >= 20),
        CriterionResult(Metric.COSINE, 0.9991, 0.99, True),
        CriterionResult(Metric.TOP1_AGREEMENT, 0.98, 0.97, True),
        CriterionResult(Metric.MAX_RELATIVE, 0.02, 0.05, True),
        CriterionResult(Metric.MISMATCHED_NONFINITE, 0, 0, True),
    )
    output = OutputParity(NASTY, metrics(decibels), criteria, (WorstSample("val/1.png", 0.97, 0.5),))
    return ParityReport("PyTorch", NASTY, "int8", 64, (output,), (NASTY,), output.passed)


def layer_report() -> LayerReport:
    layers = tuple(LayerDifference(f"layer {i}", "n", "Conv", metrics(50 - 2.0 * i)) for i in range(20))
    return LayerReport("model.onnx", NASTY, 4, layers, "layer 16", 20.0)


def doctor_report() -> DoctorReport:
    conditions = (
        Condition("version", False, NASTY, "1.7", "plans load with their own version only"),
        Condition("driver", None, "unknown", "580"),
    )
    check = EngineCheck("model.engine", "tensorrt", conditions, "linglos-deploy build")
    backends = (
        Probe("onnxruntime", True, "1.32", True, False, "runs"),
        Probe("tensorrt", False, None, False, False, "not installed", "pip install tensorrt"),
    )
    return DoctorReport("linglos.doctor/1", MACHINE, backends, (check,))


def export_report() -> ExportReport:
    accuracy = AccuracyVerdict(
        (Accuracy("PyTorch", "fp32", 99, 100), Accuracy("model.int8.onnx", "int8", 98, 100)), 0.5, 1.0, passed=False
    )
    engines = (
        EngineOutcome("tensorrt-rtx", "m.engine", "model.onnx", 2.5, 1 << 20, "built"),
        EngineOutcome("tensorrt", None, "model.onnx", 0.0, 0, "not installed"),
    )
    return ExportReport(
        name="linglo_s",
        bundle="build/linglo_s",
        parameters=5_000_000,
        precision="int8",
        graphs={"model.onnx": 20 << 20},
        warnings=("random weights",),
        accuracy=accuracy,
        parity=(parity_report(decibels=30),),
        engines=engines,
        profile=profile_report(budget=None),
        skipped=(("notes.txt", "not an image"),),
        passed=False,
    )


def all_reports() -> list[object]:
    return [parity_report(), layer_report(), profile_report(), doctor_report(), export_report()]
