"""Several images run together only where that changes no bit of any tensor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from linglos_deploy.calibration.runs import ONE_BY_ONE, Runs, decide_runs
from linglos_deploy.errors import CalibrationError, RunError
from linglos_deploy.graph.axes import ImagesAt, InputAxes, NotApart

FREE = InputAxes({"x": 0}, None)
IMAGES = {"x": np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)}
Tensors = dict[str, np.ndarray]


def graph(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tensors], Tensors]:
    return lambda batch: {"plain": batch["x"] * 2, "t": function(batch["x"])}


def test_tensors_that_agree_to_the_bit_let_images_run_together() -> None:
    runs = decide_runs(graph(lambda x: x.T), IMAGES, FREE, 4)
    assert runs == Runs(4, {"plain": ImagesAt(0), "t": ImagesAt(1)})


def test_a_last_bit_that_a_batch_rounds_otherwise_leaves_one_image_a_run() -> None:
    def rounded(x: np.ndarray) -> np.ndarray:
        return x if len(x) == 1 else np.nextafter(x, np.float32(np.inf))

    runs = decide_runs(graph(rounded), IMAGES, FREE, 4)
    assert runs == Runs(1, reason="'t' is rounded otherwise in a batch of 4 than for one image")


def test_a_last_bit_in_the_last_place_of_a_batch_counts_too() -> None:
    def rounded(x: np.ndarray) -> np.ndarray:
        bits = x.copy()
        bits[7:] = np.nextafter(bits[7:], np.float32(np.inf))
        return bits

    runs = decide_runs(graph(rounded), IMAGES, FREE, 8)
    assert runs is not None
    assert "rounded otherwise in a batch of 8" in str(runs.reason)


def test_a_graph_that_takes_one_image_only_in_truth_runs_one_by_one() -> None:
    def baked(x: np.ndarray) -> np.ndarray:
        if len(x) != 1:
            raise RunError("failed", found="cannot reshape")
        return x

    assert decide_runs(graph(baked), IMAGES, FREE, 3) == Runs(
        1, reason="the graph does not run with 3 images: cannot reshape"
    )


def test_nothing_is_tried_where_runs_hold_one_image_anyway() -> None:
    def never(batch: Tensors) -> Tensors:
        raise AssertionError

    assert decide_runs(never, IMAGES, FREE, 1) is ONE_BY_ONE
    assert decide_runs(never, IMAGES, InputAxes({"x": 0}, 1), 1) is ONE_BY_ONE


def test_equal_images_decide_nothing() -> None:
    assert decide_runs(graph(np.copy), {"x": np.ones((5, 4), np.float32)}, FREE, 4) is None


def test_a_fixed_batch_that_mixes_its_images_is_refused_by_the_tensors_name() -> None:
    fixed = InputAxes({"x": 0}, 3)
    assert decide_runs(graph(lambda x: x.T), IMAGES, fixed, 3) == Runs(3, {"plain": ImagesAt(0), "t": ImagesAt(1)})
    with pytest.raises(CalibrationError, match="In tensor 't', the images of a batch cannot be told apart"):
        decide_runs(graph(lambda x: x - x.mean(axis=0)), IMAGES, fixed, 3)


def test_tensors_are_handed_over_image_by_image() -> None:
    values = np.arange(24, dtype=np.float32).reshape(6, 4)
    runs = Runs(3, {"tokens": ImagesAt(0, inner=2), "steps": ImagesAt(0, outer=2), "shared": NotApart.SHARED})
    np.testing.assert_array_equal(runs.image_by_image("tokens", values, 2), [values[:2], values[2:4]])
    np.testing.assert_array_equal(runs.image_by_image("steps", values, 2), [values[[0, 3]], values[[1, 4]]])
    np.testing.assert_array_equal(runs.image_by_image("shared", values, 2), [values, values])
    np.testing.assert_array_equal(ONE_BY_ONE.image_by_image("any", values, 1), [values])
    counts = [runs.expected_values(name, values, 2) for name in ("tokens", "steps", "shared")]
    assert counts == [16, 16, 48]
    assert ONE_BY_ONE.expected_values("any", values, 1) == 24
