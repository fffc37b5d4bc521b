from __future__ import annotations

from dataclasses import replace

import pytest

from linglos_deploy.choices import Precision
from linglos_deploy.parity.layerwise import check_layers
from linglos_deploy.parity.metrics import compare
from linglos_deploy.parity.reached import Reached, ReachedOutput, check_identity, check_reached
from linglos_deploy.reports.parity import LayerDifference, LayerReport, OutputParity

KEPT = Reached("model.int8.onnx", "d" * 64, "golden", "same", 8, (ReachedOutput("logits", 40.0, 2.0),))


def output(decibels: float, *, images: str = "golden") -> OutputParity:
    metrics = replace(compare([[1.0, 2.0]], [[1.0, 2.0]]), sample_db_mean=decibels)
    return OutputParity("logits", metrics, (), (), images)


@pytest.mark.parametrize(
    ("precision", "lost", "passed"),
    [
        (Precision.INT8, 1.4, True),
        (Precision.INT8, 1.6, False),
        (Precision.INT8_FP16, 1.6, False),
        (Precision.FP16, 2.9, True),
        (Precision.FP16, 3.1, False),
        (Precision.BF16, 3.1, False),
        (Precision.FP32, 11.0, True),
        (Precision.FP32, 13.0, False),
    ],
)
def test_the_same_images_must_reach_what_they_reached(precision: Precision, lost: float, passed: bool) -> None:
    (found,) = check_reached([output(40 - lost)], [KEPT], precision, inputs={"golden": "same"})
    assert found.passed is passed
    assert "40.0 dB on the same images" in found.expected


@pytest.mark.parametrize(("decibels", "passed"), [(33.0, True), (31.0, False)])
def test_other_images_may_lie_lower_by_what_images_differ(decibels: float, passed: bool) -> None:
    (found,) = check_reached([output(decibels)], [KEPT], Precision.INT8, inputs={"golden": "other"})
    assert found.passed is passed
    assert "spread 2.0 dB" in found.expected


def test_a_float32_output_that_is_as_good_as_equal_need_not_be_more_equal() -> None:
    kept = replace(KEPT, outputs=(ReachedOutput("logits", 150.0, 0.0),))
    (found,) = check_reached([output(116)], [kept], Precision.FP32, inputs={"golden": "same"})
    assert found.passed
    (found,) = check_reached([output(114)], [kept], Precision.FP32, inputs={"golden": "same"})
    assert not found.passed


def test_what_was_reached_on_other_sets_of_images_says_nothing() -> None:
    assert check_reached([output(1, images="data")], [KEPT], Precision.INT8, inputs={}) == ()


def test_another_file_than_the_checked_one_is_told() -> None:
    assert check_identity("model.onnx", "e" * 64, [KEPT]) == ()
    assert [found.passed for found in check_identity(KEPT.graph, KEPT.digest, [KEPT])] == [True]
    assert [found.passed for found in check_identity(KEPT.graph, "e" * 64, [KEPT])] == [False]


def layers(**decibels: float) -> LayerReport:
    metrics = compare([[1.0, 2.0]], [[1.0, 2.0]])
    return LayerReport(
        "model.onnx",
        "model.int8.onnx",
        1,
        tuple(LayerDifference(name, name, "Conv", replace(metrics, sqnr_db=value)) for name, value in decibels.items()),
        None,
        20.0,
    )


@pytest.mark.parametrize(
    ("precision", "floor"), [(Precision.INT8, 3), (Precision.INT8_FP16, 3), (Precision.BF16, 10), (Precision.FP16, 20)]
)
def test_a_lost_inner_tensor_fails_by_name(precision: Precision, floor: float) -> None:
    assert all(found.passed for found in check_layers(layers(a=60, b=floor + 0.1), precision, {}))
    (found,) = check_layers(layers(a=60, b=floor - 0.1, c=60), precision, {})
    assert (found.passed, found.node) == (False, "b")


@pytest.mark.parametrize(("precision", "slack"), [(Precision.INT8, 3), (Precision.FP16, 4), (Precision.BF16, 4)])
def test_an_inner_tensor_must_reach_what_it_reached(precision: Precision, slack: float) -> None:
    kept = {"a": 60.0, "b": 40.0}
    assert all(found.passed for found in check_layers(layers(a=60, b=40.1 - slack), precision, kept))
    _, found = check_layers(layers(a=60, b=39.9 - slack), precision, kept)
    assert (found.passed, found.node) == (False, "b")


def test_a_nan_in_an_inner_tensor_fails_whatever_the_rest_says() -> None:
    report = layers(a=60)
    bad = replace(report.layers[0], metrics=replace(report.layers[0].metrics, mismatched_nonfinite=1))
    assert not check_layers(replace(report, layers=(bad,)), Precision.INT8, {})[0].passed


def test_float32_graphs_have_no_such_floor() -> None:
    assert check_layers(layers(a=-5), Precision.FP32, {}) == ()
