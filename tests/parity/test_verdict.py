from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from linglos_deploy.choices import Precision
from linglos_deploy.codec import from_json, to_json
from linglos_deploy.errors import DataError, UsageError
from linglos_deploy.parity.criteria import read_criteria
from linglos_deploy.parity.recording import Recording, record
from linglos_deploy.parity.verdict import Criteria, Limits, check_parity
from linglos_deploy.reports.parity import Metric, ParityReport

IMAGES = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)


def batches(size: int, images: np.ndarray = IMAGES) -> list[dict[str, np.ndarray]]:
    return [{"image": images[start : start + size]} for start in range(0, len(images), size)]


@pytest.fixture
def reference(tmp_path: Path, runner: Any) -> Recording:
    model = runner(logits=lambda x: x, total=lambda x: x.sum(axis=1, keepdims=True))
    ids = [f"{row}.png" for row in range(12)]
    return record(model, batches(5), out=tmp_path / "r", source="PyTorch", ids=ids)


def noisy(runner: Any, noise: float) -> Any:
    random = np.random.default_rng(1)
    return runner(
        logits=lambda x: x + noise * random.normal(size=x.shape), total=lambda x: x.sum(axis=1, keepdims=True)
    )


@pytest.mark.parametrize("size", [1, 4, 5, 12])
def test_the_same_answers_pass_however_the_candidate_is_batched(reference: Recording, runner: Any, size: int) -> None:
    for precision in Precision:
        report = check_parity(
            reference, noisy(runner, 0), Criteria.for_precision(precision), batches=batches(size), name="same"
        )
        assert report.passed
        assert (report.samples, report.reference, report.candidate) == (12, "PyTorch", "same")
        assert report.precision == precision


@pytest.mark.parametrize(
    ("noise", "passing"),
    [
        (1e-6, {"fp32", "fp16", "bf16", "int8"}),
        (3e-3, {"fp16", "bf16", "int8"}),
        (4e-2, {"bf16", "int8"}),
        (2.0, set()),
    ],
)
def test_each_precision_has_limits_of_its_own(
    reference: Recording, runner: Any, noise: float, passing: set[str]
) -> None:
    found = {
        str(precision)
        for precision in (Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8)
        if check_parity(reference, noisy(runner, noise), Criteria.for_precision(precision), batches=batches(12)).passed
    }
    assert found == passing


def test_a_failure_names_output_metric_limit_and_sample(reference: Recording, runner: Any) -> None:
    def one_wrong(image: np.ndarray) -> np.ndarray:
        answer = image.copy()
        answer[7] *= -1
        return answer

    report = check_parity(
        reference,
        runner(logits=one_wrong, total=lambda x: x.sum(axis=1, keepdims=True)),
        Criteria(Precision.FP32, Limits(worst_cosine=0.9)),
        batches=batches(12),
    )

    logits, total = report.outputs
    assert not report.passed
    assert not logits.passed
    assert total.passed
    (failed,) = [result for result in logits.criteria if not result.passed]
    assert (failed.metric, failed.limit) == (Metric.WORST_COSINE, 0.9)
    assert failed.found == pytest.approx(-1)
    assert logits.worst[0].id == "7.png"


def test_limits_may_differ_by_output(reference: Recording, runner: Any) -> None:
    model = runner(logits=lambda x: 2 * x, total=lambda x: x.sum(axis=1, keepdims=True))
    strict = Criteria(Precision.FP32, Limits(max_relative=1e-6))
    lenient = Criteria(Precision.FP32, Limits(max_relative=1e-6), outputs={"logits": Limits(cosine=0.999)})

    assert not check_parity(reference, model, strict, batches=batches(12)).passed
    assert check_parity(reference, model, lenient, batches=batches(12)).passed


def test_nan_never_passes_although_nothing_is_asked_for(reference: Recording, runner: Any) -> None:
    def with_nan(image: np.ndarray) -> np.ndarray:
        return np.where(image == image.max(), np.nan, image)

    report = check_parity(
        reference,
        runner(logits=with_nan, total=lambda x: x.sum(axis=1, keepdims=True)),
        Criteria(Precision.FP32, Limits()),
        batches=batches(12),
    )
    assert not report.passed
    assert [result.metric for result in report.outputs[0].criteria] == [Metric.MISMATCHED_NONFINITE]


@pytest.mark.parametrize("size", [1, 5])
def test_an_output_of_another_shape_fails_and_the_others_are_judged(
    reference: Recording, runner: Any, size: int
) -> None:
    report = check_parity(
        reference,
        runner(logits=lambda x: x[:, :, None], total=lambda x: x.sum(axis=1, keepdims=True)),
        Criteria.for_precision(Precision.FP32),
        batches=batches(size),
        images="golden",
    )
    assert not report.passed
    assert [(output.output, output.passed) for output in report.outputs] == [("total", True)]
    (finding,) = report.findings
    assert (finding.name, finding.passed) == ("logits on golden images has the reference's shape", False)
    assert (finding.found, finding.expected) == (f"[{size}, 4, 1]", f"[{size}, 4]")


def test_the_report_survives_json(reference: Recording, runner: Any) -> None:
    report = check_parity(
        reference,
        noisy(runner, 0.1),
        Criteria.for_precision(Precision.INT8),
        batches=batches(12),
        warnings=("careful",),
    )
    assert from_json(ParityReport, to_json(report), source="test") == report


def test_other_inputs_are_refused_unless_they_differ_by_design(reference: Recording, runner: Any) -> None:
    model = runner(logits=lambda x: x / 2, total=lambda x: x.sum(axis=1, keepdims=True) / 2)
    criteria = Criteria.for_precision(Precision.FP32)

    with pytest.raises(DataError, match="other inputs"):
        check_parity(reference, model, criteria, batches=batches(12, IMAGES * 2))
    assert check_parity(reference, model, criteria, batches=batches(12, IMAGES * 2), same_inputs=False).passed


@pytest.mark.parametrize(("count", "message"), [(10, "fewer samples"), (13, "more samples")])
def test_another_number_of_samples_is_refused(reference: Recording, runner: Any, count: int, message: str) -> None:
    images = np.concatenate([IMAGES, IMAGES])[:count]
    with pytest.raises(DataError, match=message):
        check_parity(reference, noisy(runner, 0), Criteria.for_precision(Precision.FP32), batches=batches(4, images))


def test_a_missing_output_is_named(reference: Recording, runner: Any) -> None:
    with pytest.raises(DataError, match="lacks outputs"):
        check_parity(reference, runner(logits=lambda x: x), Criteria.for_precision(Precision.FP32), batches=batches(12))


def test_limits_that_mean_nothing_are_refused() -> None:
    for limits in ({"cosine": 1.5}, {"max_relative": -1.0}, {"top1_agreement": 98.0}, {"sqnr_db": float("nan")}):
        with pytest.raises(UsageError, match=next(iter(limits))):
            Limits(**limits)


@pytest.mark.parametrize("precision", Precision)
def test_the_best_class_of_random_weights_is_not_judged(precision: Precision) -> None:
    trained, random = (Criteria.for_precision(precision, trained=value).limits for value in (True, False))
    assert trained.top1_agreement is not None
    assert random.top1_agreement is None
    assert random.cosine == trained.cosine
    assert (random.worst_cosine is None) == precision.is_int8


@pytest.mark.parametrize(
    ("noise", "limit"), [(150.0, 115.0), (138.0, 108.0), (116.0, 100.0), (80.0, 65.0), (20.0, 25.0)]
)
def test_a_float32_graph_is_held_to_what_its_reference_itself_holds(noise: float, limit: float) -> None:
    limits = Criteria.for_precision(Precision.FP32, noise_db={"boxes": noise}).of("boxes")
    assert limits.sqnr_db == limit
    strict = Criteria.for_precision(Precision.FP32).limits
    assert limits.max_relative == pytest.approx(1e-4 * 10 ** (max(100 - limit, 0) / 20))
    assert (limits == strict) == (limit == 100)
    assert Criteria.for_precision(Precision.INT8, noise_db={"boxes": noise}).outputs == {}


def test_random_weights_are_not_judged_by_what_is_chance() -> None:
    limits = Criteria.for_precision(Precision.INT8, trained=False).limits
    assert (limits.top1_agreement, limits.variation_db, limits.group_db) == (None, None, None)
    assert limits.sqnr_db == 13


@pytest.mark.parametrize(("samples", "limit"), [(1, 0.0), (8, 0.875), (9, 8 / 9), (10, 0.9), (64, 0.9), (None, 0.9)])
def test_one_image_that_flips_fails_no_default_and_two_do(samples: int | None, limit: float) -> None:
    criteria = Criteria.for_precision(Precision.INT8, samples=samples)
    assert criteria.limits.top1_agreement == limit
    random = Criteria.for_precision(Precision.INT8, trained=False, samples=samples)
    assert random.limits.top1_agreement is None
    asked = read_criteria(None, {"top1_agreement": 1.0}).apply(criteria, backend="onnxruntime")
    assert asked.of("logits").top1_agreement == 1.0


def test_a_flip_that_somebody_asked_not_to_have_fails_among_few_images(tmp_path: Path, runner: Any) -> None:
    logits = IMAGES[:8]
    flipped = logits.copy()
    flipped[0] = -logits[0]  # another best class
    few = batches(8, logits)
    recording = record(runner(logits=lambda _: logits), few, out=tmp_path / "few")
    criteria = Criteria(Precision.INT8, Limits(top1_agreement=1.0))
    report = check_parity(recording, runner(logits=lambda _: flipped), criteria, batches=few)
    (agreement,) = (result for result in report.outputs[0].criteria if result.metric is Metric.TOP1_AGREEMENT)
    assert (agreement.found, agreement.limit, agreement.passed) == (0.875, 1.0, False)
