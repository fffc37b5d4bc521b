from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from linglos_deploy.choices import Precision
from linglos_deploy.parity.positions import SIZES, check_positions, check_sizes, first_images

X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
BATCHES = [{"image": X[:3]}, {"image": X[3:]}]


@pytest.mark.parametrize("precision", [*Precision])
def test_a_model_that_looks_at_each_image_alone_passes(runner: Any, precision: Precision) -> None:
    found = check_positions(runner(y=lambda x: 3 * x, z=lambda x: x.sum(axis=1)), BATCHES, precision)
    assert found.passed
    assert "3 others" in found.found


@pytest.mark.parametrize("precision", [*Precision])
@pytest.mark.parametrize("share", [1.0, 0.1, 0.05, 0.01, 0.001])
def test_a_leak_between_images_fails(runner: Any, precision: Precision, share: float) -> None:
    def leaking(x: np.ndarray) -> np.ndarray:
        return np.asarray(x + share * (x.mean(axis=0) - x))

    found = check_positions(runner(clean=lambda x: x, y=leaking), BATCHES, precision)
    assert found.passed is False
    assert "'y'" in found.found


def test_a_leak_from_the_next_image_alone_fails(runner: Any) -> None:
    found = check_positions(runner(y=lambda x: x + 0.001 * np.roll(x, 1, axis=0)), BATCHES, Precision.INT8)
    assert found.passed is False
    assert "copies of itself" in found.found


@pytest.mark.parametrize(
    ("precision", "passed"),
    [(Precision.INT8, True), (Precision.FP32, False), (Precision.FP16, False), (Precision.BF16, False)],
)
def test_sums_that_are_ordered_by_the_size_of_the_batch_may_move_integers_by_a_step(
    runner: Any, precision: Precision, passed: bool
) -> None:
    steps = np.random.default_rng(1).normal(size=(1, 4)).astype(np.float32) * 0.03
    assert check_positions(runner(y=lambda x: x + (len(x) > 1) * steps), BATCHES, precision).passed is passed


def test_an_image_that_answers_by_its_place_fails(runner: Any) -> None:
    places = runner(y=lambda x: x * (1 + np.arange(len(x))[:, None]))
    assert check_positions(places, BATCHES, Precision.INT8).passed is False


def test_a_state_with_as_many_layers_as_images_is_taken_apart_where_its_images_lie(runner: Any) -> None:
    layers = np.arange(1, 5, dtype=np.float32)[:, None, None]
    found = check_positions(runner(state=lambda x: layers * x), BATCHES, Precision.FP32)
    assert found.passed
    leaking = runner(state=lambda x: layers * (x + 0.01 * x.mean(axis=0)))
    assert check_positions(leaking, BATCHES, Precision.FP32).passed is False


def test_nothing_is_said_where_no_output_has_images(runner: Any) -> None:
    assert check_positions(runner(y=lambda x: x.sum(axis=0)), BATCHES, Precision.FP32).passed is None


def test_nan_in_company_fails(runner: Any) -> None:
    found = check_positions(runner(y=lambda x: x if len(x) == 1 else x * np.nan), BATCHES, Precision.FP32)
    assert found.passed is False


def test_an_answer_that_one_rounding_moved_does_not_fail_the_others(runner: Any) -> None:
    def one_moved(x: np.ndarray) -> np.ndarray:
        answer = x.copy()
        if len(x) > 1:
            answer[(x == X[0]).all(axis=1)] += 0.01
        return answer

    assert check_positions(runner(y=one_moved), BATCHES, Precision.INT8).passed


def test_one_image_is_said_to_be_too_few(runner: Any) -> None:
    assert check_positions(runner(y=lambda x: x), [{"image": X[:1]}] * 5, Precision.FP32).passed is None


def sizes(runner: Any, answer: Any, **noise_db: float) -> tuple[bool | None, bool | None]:
    first, again = check_sizes(runner(y=answer), BATCHES, noise_db=noise_db)
    return first.passed, again.passed


def test_an_image_that_answers_the_same_in_any_batch_passes(runner: Any) -> None:
    assert sizes(runner, lambda x: 3 * x) == (True, True)
    one = check_sizes(runner(y=lambda x: x), [{"image": X[:1]}], noise_db={})
    assert all(finding.passed for finding in one)


@pytest.mark.parametrize("size", SIZES)
def test_a_graph_that_is_wrong_for_one_number_of_images_is_seen(runner: Any, size: int) -> None:
    wrong = check_sizes(runner(y=lambda x: x * (1.01 if len(x) == size else 1)), BATCHES, noise_db={})[0]
    assert wrong.passed is False
    assert f" of {size}" in wrong.found
    assert sizes(runner, lambda x: x * (1.01 if len(x) >= size else 1)) == (False, True)


def test_a_graph_that_is_wrong_at_one_place_is_seen(runner: Any) -> None:
    place = np.zeros((17, 1))
    place[15] = 0.01
    assert sizes(runner, lambda x: x * (1 + place[: len(x)])) == (False, True)


def test_an_ill_conditioned_model_is_held_to_what_its_noise_allows(runner: Any) -> None:
    """At 95 dB of its own noise, one image may move by 60."""
    assert sizes(runner, lambda x: x * (1 + 3e-3 * (len(x) == 7)), y=80.0) == (True, True)
    assert sizes(runner, lambda x: x * (1 + 3e-3 * (len(x) == 7)), y=120.0) == (False, True)


@pytest.mark.parametrize("noise", [1e-2, 1e-4, 1e-6])
def test_chance_is_seen(runner: Any, noise: float) -> None:
    rng = np.random.default_rng(0)
    assert sizes(runner, lambda x: x + noise * rng.normal(size=x.shape))[1] is False


def test_the_first_images_differ_from_one_another() -> None:
    found = first_images([{"image": X[[0, 0, 1]]}, {"image": X[[1, 2]]}, {"image": X[5:]}], 4)["image"]
    assert np.array_equal(found, X[[0, 1, 2, 5]])
