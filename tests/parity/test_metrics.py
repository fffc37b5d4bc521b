from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from linglos_deploy.codec import from_json, to_json
from linglos_deploy.errors import DataError
from linglos_deploy.parity.metrics import MOST_DB, MOST_RELATIVE, Difference, compare
from linglos_deploy.reports.parity import OutputMetrics

FLOATS = st.floats(-1e6, 1e6, width=32)
ANY_FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)


@st.composite
def pairs(draw: st.DrawFn, elements: st.SearchStrategy[float] = FLOATS) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=5))
    arrays = hnp.arrays(np.float32, shape, elements=elements)
    return draw(arrays), draw(arrays)


@given(pairs())
def test_plain_metrics_agree_with_their_definitions(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = (array.astype(np.float64) for array in pair)
    found = compare(*pair)

    assert found.samples == len(a)
    assert found.values == a.size
    assert found.max_abs == np.abs(a - b).max()
    assert found.mean_abs == pytest.approx(np.abs(a - b).mean())
    if np.abs(a).max() > 1e-3:
        assert found.max_relative == pytest.approx(np.abs(a - b).max() / np.abs(a).max())
        if np.abs(a - b).max() > 1e-3:
            assert found.sqnr_db == pytest.approx(10 * math.log10((a**2).sum() / ((a - b) ** 2).sum()), abs=1e-6)
        if np.abs(b).max() > 1e-3:
            cosine = (a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b))
            assert found.cosine == pytest.approx(cosine, abs=1e-9)


@given(pairs(ANY_FLOATS))
def test_every_number_is_finite_and_survives_json(pair: tuple[np.ndarray, np.ndarray]) -> None:
    found = compare(*pair)
    assert from_json(OutputMetrics, to_json(found), source="test") == found


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=4), elements=ANY_FLOATS))
def test_equal_outputs_have_no_difference(array: np.ndarray) -> None:
    found = compare(array, array.copy())

    assert (found.max_abs, found.max_relative, found.mean_abs, found.sqnr_db) == (0, 0, 0, MOST_DB)
    assert found.cosine == pytest.approx(1)
    assert found.worst_cosine == pytest.approx(1)
    assert found.mismatched_nonfinite == 0
    assert found.nonfinite_reference == np.count_nonzero(~np.isfinite(array))


@given(pairs(), st.integers(0, 5))
def test_how_samples_are_batched_does_not_matter(pair: tuple[np.ndarray, np.ndarray], cut: int) -> None:
    a, b = pair
    parts = Difference()
    for rows in (slice(None, cut), slice(cut, None)):
        parts.update(a[rows], b[rows])
    whole = compare(a, b)

    assert parts.metrics().max_abs == whole.max_abs
    assert parts.metrics().cosine == pytest.approx(whole.cosine)
    assert parts.metrics().worst_cosine == whole.worst_cosine
    assert parts.metrics().samples == whole.samples


def test_nan_and_infinity_match_only_their_like() -> None:
    inf, nan = np.inf, np.nan
    found = compare([[nan, inf, -inf, nan, inf, 1.0, 1.0]], [[nan, inf, -inf, 0.0, -inf, nan, 1.0]])

    assert found.mismatched_nonfinite == 3
    assert found.nonfinite_reference == 5
    assert found.max_abs == 0


def test_zeros_have_a_defined_answer() -> None:
    both = compare(np.zeros((1, 3)), np.zeros((1, 3)))
    one = compare(np.zeros((1, 3)), np.ones((1, 3)))

    assert (both.cosine, both.max_relative, both.sqnr_db) == (1, 0, MOST_DB)
    assert (one.cosine, one.max_relative, one.sqnr_db) == (0, MOST_RELATIVE, -MOST_DB)


def test_a_mean_over_samples_tells_decibels_apart_up_to_where_float32_ends() -> None:
    wanted = np.ones((3, 4))
    found = wanted * np.array([[1.0], [1 + 1e-7], [1 + 1e-5]])  # equal, 140 dB, 100 dB
    assert compare(wanted[:1], found[:1]).sample_db_mean == 150
    assert compare(wanted[2:], found[2:]).sample_db_mean == pytest.approx(100, abs=0.1)
    assert compare(wanted, found).sample_db_mean == pytest.approx(130, abs=0.1)


def test_one_bad_sample_shows_although_the_rest_is_right() -> None:
    a = np.random.default_rng(0).normal(size=(50, 8))
    b = a.copy()
    b[17] = -a[17]
    difference = Difference(keep_worst=3)
    difference.update(a, b, [f"image{row}.png" for row in range(50)])

    assert difference.metrics().worst_cosine == pytest.approx(-1)
    assert difference.metrics().cosine > 0.9
    assert difference.worst()[0].id == "image17.png"
    assert len(difference.worst()) == 3


def test_worst_samples_are_numbered_over_batches_when_they_have_no_names() -> None:
    difference = Difference(keep_worst=1)
    difference.update(np.ones((4, 2)), np.ones((4, 2)))
    difference.update(np.ones((4, 2)), np.array([[1, 1], [1, 1], [1, -1], [1, 1]]))

    assert [sample.id for sample in difference.worst()] == ["6"]


def test_top1_counts_samples_whose_winner_is_the_references_winner() -> None:
    reference = np.array([[1.0, 2.0], [1.0, 2.0], [3.0, 3.0], [np.nan, 1.0]])
    candidate = np.array([[0.0, 9.0], [2.0, 1.0], [0.0, 1.0], [0.0, 1.0]])

    assert compare(reference, candidate).top1_agreement == 0.5  # a tie may go either way; NaN never agrees


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 4, 2, 2)])
def test_top1_is_for_vectors_of_classes_only(shape: tuple[int, ...]) -> None:
    assert compare(np.ones(shape), np.ones(shape)).top1_agreement is None


def test_other_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="cannot be compared"):
        compare(np.ones((2, 3)), np.ones((3, 2)))
    with pytest.raises(DataError, match="cannot be compared"):
        compare(np.float32(1), np.float32(1))
