from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import entropy

from linglos_deploy.choices import Precision
from linglos_deploy.parity.criteria import read_criteria
from linglos_deploy.parity.metrics import Difference, compare
from linglos_deploy.parity.verdict import Criteria, judge, within_rounding
from linglos_deploy.reports.parity import Metric

RNG = np.random.default_rng(0)


def detector(noise_of_scores: float) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of hundreds and scores below one in one output, 4 + 2 channels."""
    boxes, scores = RNG.uniform(0, 640, (2, 4, 100)), RNG.uniform(0, 1, (2, 2, 100))
    found = boxes + RNG.normal(size=boxes.shape), scores + noise_of_scores * RNG.normal(size=scores.shape)
    return np.concatenate([boxes, scores], axis=1), np.concatenate(found, axis=1)


@pytest.mark.parametrize("last", [False, True])
def test_noise_that_ruins_the_scores_is_not_hidden_by_the_boxes(last: bool) -> None:
    wanted, found = (np.swapaxes(array, 1, 2) if last else array for array in detector(0.2))
    metrics = compare(wanted, found)
    assert metrics.sqnr_db > 45
    assert [group.channels for group in metrics.groups] == [(0, 1, 2, 3), (4, 5)]
    assert metrics.groups[1].sqnr_db < 6
    assert {channel.channel for channel in metrics.worst_channels[:2]} == {4, 5}
    failed = [
        result.metric for result in judge(metrics, Criteria.for_precision(Precision.INT8).limits) if not result.passed
    ]
    assert failed == [Metric.GROUP_DB]
    clean = compare(*detector(0.01))
    assert all(result.passed for result in judge(clean, Criteria.for_precision(Precision.INT8).limits))


def test_an_output_that_hardly_varies_does_not_pass_by_its_mean() -> None:
    wanted = 5 + 0.005 * RNG.normal(size=(64, 8))
    metrics = compare(wanted, np.full_like(wanted, 5.0))
    assert metrics.sqnr_db > 55
    assert metrics.variation_db == pytest.approx(0, abs=0.5)
    failed = [
        result.metric for result in judge(metrics, Criteria.for_precision(Precision.INT8).limits) if not result.passed
    ]
    assert Metric.VARIATION_DB in failed
    untrained = Criteria.for_precision(Precision.INT8, trained=False).limits
    assert Metric.VARIATION_DB not in {result.metric for result in judge(metrics, untrained)}


ROUNDED = [(Precision.FP32, 2.0**-24), (Precision.FP16, 2.0**-11), (Precision.BF16, 2.0**-8)]


@pytest.mark.parametrize(("precision", "step"), ROUNDED)
def test_what_varies_by_less_than_its_own_rounding_is_not_held_to_its_variation(
    precision: Precision, step: float
) -> None:
    """A saturated sigmoid, in a vector and as a channel of a map beside one of another size."""
    sure = 1 - 3 * step * RNG.uniform(size=(16, 3))
    beside = np.stack([900 * RNG.normal(size=(16, 8, 8)), 1 - 3 * step * RNG.uniform(size=(16, 8, 8))], axis=1)
    criteria = Criteria.for_precision(precision)
    for wanted in (sure, beside):
        metrics = compare(wanted, wanted + step * RNG.uniform(-1, 1, wanted.shape))
        alone = {result.metric for result in judge(metrics, criteria.limits) if not result.passed}
        assert alone & {Metric.VARIATION_DB, Metric.GROUP_DB}
        rounded = judge(metrics, within_rounding(criteria.limits, metrics, criteria))
        assert all(result.passed for result in rounded if result.metric in (Metric.VARIATION_DB, Metric.GROUP_DB))
        file = read_criteria(None, {"variation_db": 20, "group_db": 20}).apply(criteria, backend="onnxruntime")
        held = judge(metrics, within_rounding(file.limits, metrics, file))
        assert not all(result.passed for result in held)


def test_one_channel_that_cannot_vary_excuses_no_other() -> None:
    sure, scores = 1e3 - 1e-3 * RNG.uniform(size=(64, 1, 9)), RNG.uniform(size=(64, 2, 9))
    noisy = np.concatenate([sure, scores + 0.3 * RNG.normal(size=scores.shape)], axis=1)
    criteria = Criteria.for_precision(Precision.FP16)
    noisy[:, 0] += 0.3 * RNG.normal(size=noisy[:, 0].shape)
    metrics = compare(np.concatenate([sure, scores], axis=1), noisy)
    failed = [it.metric for it in judge(metrics, within_rounding(criteria.limits, metrics, criteria)) if not it.passed]
    assert Metric.GROUP_DB in failed


def test_sums_do_not_depend_on_how_the_samples_are_batched() -> None:
    wanted, found = RNG.normal(size=(2, 12, 5, 3))
    whole, parts = Difference(), Difference()
    whole.update(wanted, found)
    for start in range(0, 12, 5):
        parts.update(wanted[start : start + 5], found[start : start + 5])
    assert parts.metrics().variation_db == pytest.approx(whole.metrics().variation_db)
    assert parts.metrics().sample_db_mean == pytest.approx(whole.metrics().sample_db_mean)
    assert parts.metrics().abs_quantiles == whole.metrics().abs_quantiles


def test_quantiles_are_those_of_numpy_to_within_a_bin() -> None:
    wanted = np.zeros((50, 100))
    found = RNG.normal(size=wanted.shape)
    expected = np.quantile(np.abs(found), [0.5, 0.9, 0.99, 0.999], method="inverted_cdf")
    assert compare(wanted + 1, found + 1).abs_quantiles == pytest.approx(expected, rel=0.05)
    assert compare(wanted, wanted).abs_quantiles == (0, 0, 0, 0)


def test_the_divergence_of_classes_is_that_of_scipy() -> None:
    wanted, found = RNG.normal(size=(2, 6, 10))
    softmax = [np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True) for rows in (wanted, found)]
    assert compare(wanted, found).kl_divergence == pytest.approx(entropy(*softmax, axis=1).mean())
    assert compare(wanted, wanted + 7).kl_divergence == pytest.approx(0, abs=1e-12)


def test_flips_are_told_with_their_margins_largest_first() -> None:
    wanted = np.eye(3) * [[1.0], [3.0], [2.0]]
    difference = Difference()
    difference.update(wanted, np.roll(wanted, 1, axis=1), ["a", "b", "c"])
    assert [(flip.id, flip.reference, flip.candidate, flip.margin) for flip in difference.flips()] == [
        ("b", 1, 2, 3.0),
        ("c", 2, 0, 2.0),
        ("a", 0, 1, 1.0),
    ]


def test_the_best_five_are_counted_where_there_are_more_classes() -> None:
    wanted = np.arange(10.0)[None]
    assert compare(wanted, wanted[:, ::-1]).top5_agreement == 0
    assert compare(wanted, np.roll(wanted, 4, axis=1)).top5_agreement == 1
    assert compare(wanted[:, :4], wanted[:, :4]).top5_agreement is None


def test_each_samples_own_ratio_counts_the_same() -> None:
    wanted = np.array([[1.0, 0.0], [100.0, 0.0]])
    metrics = compare(wanted, wanted + np.array([[0.1, 0.0], [0.0, 0.0]]))
    assert metrics.sample_db_mean == pytest.approx((20 + 150) / 2)
    assert metrics.sample_db_std == pytest.approx(65)
    assert math.isfinite(metrics.sqnr_db)
