from __future__ import annotations

from functools import partial
from pathlib import Path

import onnx
import pytest
from onnx import helper

from linglos_deploy.artifacts import open_onnx
from linglos_deploy.backends import registry
from linglos_deploy.backends.compilers.openvino import OpenVino
from linglos_deploy.backends.machine import find_gpus
from linglos_deploy.codec import from_json, to_json
from linglos_deploy.engines.registry import compiler
from linglos_deploy.engines.spec import BuildSpec, ShapeRange
from linglos_deploy.errors import ArtifactError, UsageError
from linglos_deploy.models.loading import ModelSource
from linglos_deploy.profiling import blocks as module
from linglos_deploy.profiling import measure as measuring
from linglos_deploy.profiling.measure import measure
from linglos_deploy.profiling.plan import Candidate, LatencyBudget, MeasurementPlan
from linglos_deploy.profiling.process import start_worker
from linglos_deploy.reports.profile import Finding, MachineLimits, Outcome, ProfileReport, only_missing
from tests.backends.graphs import saturating_graph
from tests.profiling import fakes

QUICK = MeasurementPlan(processes=1, rounds=2, min_runs=4, min_seconds=0.01, warmup_seconds=0)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return saturating_graph(tmp_path / "model.int8.onnx").path


@pytest.fixture
def fake(graph: Path, monkeypatch: pytest.MonkeyPatch) -> partial[Candidate]:
    """Make candidates of the misbehaving backend."""
    monkeypatch.setitem(registry.BUILTIN, "fake", fakes.FACTORY)
    monkeypatch.setattr(module, "start_worker", partial(start_worker, fakes.WORKER))
    return partial(Candidate, "fake", graph)


@pytest.fixture
def open_graph(tmp_path: Path) -> Path:
    """A graph that takes images of any size."""
    image, pooled = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)
        for name, dims in (("image", ["batch", 3, "height", "width"]), ("pooled", ["batch", 3, 1, 1]))
    )
    node = helper.make_node("GlobalAveragePool", ["image"], ["pooled"], "pool")
    model = helper.make_model(helper.make_graph([node], "any", [image], [pooled]), ir_version=10)
    onnx.save(model, tmp_path / "open.onnx")
    return tmp_path / "open.onnx"


def test_two_backends_are_measured_on_the_same_graph(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "measure_limits", lambda threads: MachineLimits(threads, 1e9, 1e9))
    plan = MeasurementPlan(
        threads=(1,), processes=1, rounds=2, min_runs=6, min_seconds=0, warmup_seconds=0, layers=True
    )
    report = measure([Candidate("onnxruntime", graph), Candidate("openvino", graph)], plan, title="Two")
    first, second = report.rows
    assert [row.outcome for row in report.rows] == [Outcome.MEASURED] * 2, report.rows
    assert first.label == "onnxruntime model.int8.onnx"
    assert first.precision == second.precision == "int8"
    assert first.latency is not None
    assert first.latency.runs == 6
    assert first.latency.minimum <= first.latency.p50 <= first.latency.maximum
    assert first.latency.p90 is None  # needs more runs
    assert len(first.latency.round_medians) == 2
    assert [[len(samples) for samples in rounds] for rounds in first.samples_ms] == [[3, 3]]
    assert first.ratio is None
    assert second.ratio is not None
    assert second.ratio.baseline == first.label
    assert (second.ratio.low, second.ratio.finding) == (None, Finding.CANNOT_TELL)  # of a single process
    assert first.options["int8"] == "exact"
    assert first.options["threads"] == "1"
    assert first.versions["onnxruntime"]
    assert first.image_size == (4, 4)
    assert first.peak_rss_bytes is not None
    assert first.peak_rss_bytes > 1 << 20
    assert first.layers is not None
    assert any(entry.operator == "Conv" for entry in first.layers.layers)
    assert report.limits == (MachineLimits(1, 1e9, 1e9),)
    assert second.layers is not None
    assert from_json(ProfileReport, to_json(report), source="test") == report


def test_every_batch_size_and_thread_count_gets_a_row_for_each_candidate(fake: partial[Candidate]) -> None:
    plan = MeasurementPlan(
        batch_sizes=(1, 3), threads=(1, 2), processes=1, rounds=1, min_runs=2, min_seconds=0, warmup_seconds=0
    )
    report = measure([fake(label="a")], plan)
    assert [(row.batch, row.threads) for row in report.rows] == [(1, 1), (1, 2), (3, 1), (3, 2)]
    assert all(row.options["threads"] == str(row.threads) for row in report.rows)


@pytest.mark.parametrize(
    ("behaviour", "outcome", "reason"),
    [
        ("raise", Outcome.FAILED, "ValueError: the layer exploded"),
        ("crash", Outcome.FAILED, "crashed (exit code 11). Its last words: segmentation fault, more or less"),
        ("hang", Outcome.FAILED, "gave no answer within"),
        ("missing", Outcome.NOT_RUN, "There is no such device here."),
    ],
)
def test_a_candidate_that_misbehaves_is_a_row_with_its_reason_and_spares_the_others(
    fake: partial[Candidate], behaviour: str, outcome: Outcome, reason: str
) -> None:
    plan = MeasurementPlan(
        processes=1,
        rounds=2,
        min_runs=4,
        min_seconds=0,
        warmup_seconds=0,
        timeout_seconds=10 if behaviour == "hang" else 60,
    )
    report = measure([fake(label="bad", options={"behaviour": behaviour}), fake(label="good")], plan)
    bad, good = report.rows
    assert bad.outcome is outcome
    assert reason in bad.reason
    assert bad.latency is None
    assert good.outcome is Outcome.MEASURED
    assert good.ratio is None  # there is no baseline to compare with


def test_what_a_library_prints_does_not_disturb(fake: partial[Candidate]) -> None:
    assert measure([fake(options={"behaviour": "chatty"})], QUICK).rows[0].outcome is Outcome.MEASURED


def test_notes_of_the_runner_reach_the_row(fake: partial[Candidate]) -> None:
    assert "a fake" in measure([fake()], QUICK).rows[0].notes


def test_the_ratio_refers_to_the_baseline_that_was_named(fake: partial[Candidate]) -> None:
    plan = MeasurementPlan(processes=1, rounds=2, min_runs=4, min_seconds=0, warmup_seconds=0, baseline="slow")
    fast, slow = measure([fake(label="fast"), fake(label="slow", options={"pause": 0.05})], plan).rows
    assert slow.ratio is None
    assert fast.ratio is not None
    assert fast.ratio.value < 0.5


def test_a_budget_is_a_verdict_and_no_exception(fake: partial[Candidate]) -> None:
    slow = fake(label="slow", options={"pause": 0.2})
    report = measure([fake(label="fast"), slow], QUICK, budget=LatencyBudget(max_p50_ms=100))
    assert [check.passed for check in report.checks] == [True, False]
    assert not report.passed
    assert measure([fake(label="fast")], QUICK, budget=LatencyBudget(max_p50_ms=1000)).passed


@pytest.mark.parametrize("budget", [None, LatencyBudget(max_p50_ms=1000)])
def test_whatever_was_not_measured_keeps_a_report_from_passing(
    fake: partial[Candidate], budget: LatencyBudget | None
) -> None:
    absent, good = fake(label="absent", options={"behaviour": "missing"}), fake(label="good")
    bad = fake(label="bad", options={"behaviour": "raise"})
    lacking, failing = measure([absent, good], QUICK, budget=budget), measure([bad, good, absent], QUICK, budget=budget)
    assert not lacking.passed
    assert only_missing(lacking)
    assert not failing.passed
    assert not only_missing(failing)
    assert measure([good], QUICK, budget=budget).passed


def test_sizes_that_a_model_does_not_take_are_wrong_usage_that_names_the_candidate(graph: Path) -> None:
    plan = MeasurementPlan(image_sizes=((8, 8),), processes=1, rounds=1, min_runs=1, min_seconds=0, warmup_seconds=0)
    with pytest.raises(UsageError, match=r"'onnxruntime model.int8.onnx' cannot .* axis 2 of 'x' is fixed") as caught:
        measure([Candidate("onnxruntime", graph)], plan)
    assert caught.value.found


def test_models_that_insist_on_different_sizes_are_each_measured_at_their_own(
    fake: partial[Candidate], graph: Path, tmp_path: Path
) -> None:
    larger = onnx.load(graph)
    for axis in (2, 3):
        larger.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 6
    onnx.save(larger, tmp_path / "larger.onnx")
    one, other = measure([fake(label="a"), Candidate("fake", tmp_path / "larger.onnx", label="b")], QUICK).rows
    assert (one.image_size, other.image_size) == ((4, 4), (6, 6))
    assert other.ratio is None  # there is nothing to compare


def test_an_unknown_backend_is_refused_before_anything_runs(graph: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'onnxruntime'"):
        measure([Candidate("onnxruntme", graph)], QUICK)


def test_nothing_to_measure_equal_labels_and_unknown_baselines_are_refused(graph: Path) -> None:
    candidate = Candidate("onnxruntime", graph)
    with pytest.raises(UsageError, match="nothing to measure"):
        measure([], QUICK)
    with pytest.raises(UsageError, match="same label"):
        measure([candidate, candidate], QUICK)
    with pytest.raises(UsageError, match="baseline 'other'"):
        measure([candidate], MeasurementPlan(baseline="other"))


def test_a_missing_file_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no ONNX file"):
        measure([Candidate("onnxruntime", tmp_path / "missing.onnx")], QUICK)
    with pytest.raises(ArtifactError, match="no engine"):
        measure([Candidate("tensorrt-rtx", tmp_path / "missing.engine")], QUICK)


def test_progress_is_told_about_every_step(fake: partial[Candidate]) -> None:
    from contextlib import contextmanager

    totals, steps = [], []

    class Recorder:
        @contextmanager
        def stage(self, name, total=None):  # type: ignore[no-untyped-def]
            totals.append(total)
            yield lambda count=1: steps.append(count)

        def warn(self, message: str) -> None: ...

    measure([fake(label="a"), fake(label="b")], QUICK, progress=Recorder())
    assert totals == [sum(steps)]


def test_a_pytorch_model_is_measured_at_its_own_image_size() -> None:
    source = ModelSource(variant="t", image_size=(32, 32))
    plan = MeasurementPlan(threads=(1,), processes=1, rounds=1, min_runs=2, min_seconds=0, warmup_seconds=0)
    row = measure([Candidate("torch", source=source)], plan).rows[0]
    assert row.outcome is Outcome.MEASURED, row.reason
    assert row.image_size == (32, 32)
    assert row.artifact == "LinGlo t"


def test_an_engine_is_measured_by_the_backend_that_compiled_it(graph: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is missing: pip install 'linglos-deploy[openvino]'")
    shape = ShapeRange((1, 64, 4, 4), (1, 64, 4, 4), (2, 64, 4, 4))
    engine = OpenVino().compile(open_onnx(graph), BuildSpec(({"x": shape},)), out=tmp_path / "model.blob")
    row = measure([Candidate("openvino", engine.path)], QUICK).rows[0]
    assert row.outcome is Outcome.MEASURED, row.reason
    assert row.digest == engine.digest


@pytest.mark.skipif(bool(find_gpus()[0]), reason="there is a GPU here, so the engine would run")
def test_an_engine_for_a_gpu_is_not_run_without_one_and_the_reason_says_so(graph: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is missing: pip install 'linglos-deploy[tensorrt-rtx]'")
    shape = ShapeRange((1, 64, 4, 4), (1, 64, 4, 4), (2, 64, 4, 4))
    engine = compiler("tensorrt-rtx").compile(
        open_onnx(graph), BuildSpec(({"x": shape},)), out=tmp_path / "model.engine"
    )
    row = measure([Candidate("tensorrt-rtx", engine.path)], QUICK).rows[0]
    assert row.outcome is Outcome.NOT_RUN
    assert "GPU" in row.reason


def test_candidates_need_exactly_one_model(graph: Path) -> None:
    with pytest.raises(UsageError, match="needs one model"):
        Candidate("torch")
    with pytest.raises(UsageError, match="needs one model"):
        Candidate("torch", graph, ModelSource(variant="t"))


def test_labels_name_the_backend_and_the_model() -> None:
    assert Candidate("torch", source=ModelSource(variant="t")).label == "torch LinGlo t"
    assert Candidate("torch", source=ModelSource(checkpoint=Path("a/best.pt"))).label == "torch best.pt"


@pytest.mark.parametrize(
    "values",
    [
        {"batch_sizes": ()},
        {"batch_sizes": (0,)},
        {"threads": (-1,)},
        {"image_sizes": ((0, 4),)},
        {"rounds": 0},
        {"min_runs": 0},
        {"min_seconds": -1.0},
        {"warmup_seconds": -1.0},
        {"timeout_seconds": 0.0},
        {"confidence": 1.0},
        {"min_effect": -0.01},
        {"processes": 0},
        {"precision_target": 0.0},
        {"budget_seconds": 0.0},
    ],
)
def test_impossible_plans_are_refused_where_they_are_made(values: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="cannot be made"):
        MeasurementPlan(**values)  # type: ignore[arg-type]


def test_an_impossible_budget_is_refused() -> None:
    with pytest.raises(UsageError, match="latency budget"):
        LatencyBudget(max_p50_ms=0)


def test_repeated_batch_sizes_are_measured_once() -> None:
    assert MeasurementPlan(batch_sizes=(1, 8, 1)).batch_sizes == (1, 8)


def test_a_batch_that_a_graph_does_not_take_is_wrong_usage(graph: Path, tmp_path: Path) -> None:
    plan = MeasurementPlan(batch_sizes=(1, 2), processes=1, rounds=1, min_runs=1, min_seconds=0, warmup_seconds=0)
    fixed = onnx.load(graph)
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(fixed, tmp_path / "one.onnx")
    with pytest.raises(UsageError, match="axis 0 of 'x' is fixed"):
        measure([Candidate("onnxruntime", tmp_path / "one.onnx")], plan)


def test_every_image_size_gives_rows_of_its_own(fake: partial[Candidate], open_graph: Path) -> None:
    plan = MeasurementPlan(
        image_sizes=((8, 8), (6, 10)), processes=1, rounds=1, min_runs=1, min_seconds=0, warmup_seconds=0
    )
    report = measure([Candidate("fake", open_graph, label=label) for label in ("a", "b")], plan)
    assert [(row.label, row.image_size) for row in report.rows] == [
        ("a", (8, 8)),
        ("b", (8, 8)),
        ("a", (6, 10)),
        ("b", (6, 10)),
    ]
    assert [row.ratio is not None for row in report.rows] == [False, True, False, True]
    assert [(scaling.label, scaling.points) for scaling in report.scalings] == [("a", 2), ("b", 2)]


def test_an_image_size_that_the_input_does_not_have_is_wrong_usage(fake: partial[Candidate], open_graph: Path) -> None:
    plan = MeasurementPlan(
        image_sizes=((8, 8),), shapes={"": (1, 3, 6, 6)}, processes=1, rounds=1, min_runs=1, warmup_seconds=0
    )
    with pytest.raises(UsageError, match="at an image size that its input does not have") as caught:
        measure([Candidate("fake", open_graph, label="a")], plan)
    assert caught.value.found == "images of 6 x 6"


def test_layers_come_with_their_work_and_the_machines_limits(open_graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "measure_limits", lambda threads: MachineLimits(threads, 1e9, 1e9))
    plan = MeasurementPlan(
        batch_sizes=(2,), image_sizes=((8, 6),), processes=1, rounds=1, min_runs=1, min_seconds=0, layers=True
    )
    report = measure([Candidate("onnxruntime", open_graph)], plan)
    assert report.limits == (MachineLimits(1, 1e9, 1e9),)
    assert report.rows[0].layers is not None
    (pool,) = (layer for layer in report.rows[0].layers.layers if layer.layer == "pool")
    assert (pool.macs, pool.bytes) == (0, 4 * (2 * 3 * 48 + 2 * 3))
