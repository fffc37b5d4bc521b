"""The best class: kept, lost to another one, tied; class by class, and pictures of what flipped."""

from __future__ import annotations

import numpy as np
import pytest

from linglos_deploy.parity.classes import MOST_FLIPS, ClassSums
from linglos_deploy.reports.parity import ClassAgreement

RNG = np.random.default_rng(0)


def one_hot(*classes: int, count: int = 4) -> np.ndarray:
    return np.eye(count)[list(classes)]


def test_each_class_of_the_reference_tells_what_became_of_its_samples() -> None:
    sums = ClassSums()
    sums.update(one_hot(0, 0, 2, 2), one_hot(0, 1, 3, 3), list("abcd"))
    sums.update(one_hot(2, 2), one_hot(1, 2), list("ef"))
    assert sums.by_class() == (ClassAgreement(0, 2, 1, 1), ClassAgreement(2, 4, 1, 3))
    assert sums.top1_agreement() == 2 / 6


def test_a_tie_agrees_with_either_class() -> None:
    sums = ClassSums()
    sums.update(np.array([[1.0, 1.0, 0.0]]), np.array([[0.0, 1.0, 0.0]]), ["a"])
    assert sums.by_class() == (ClassAgreement(0, 1, 1, None),)
    assert sums.flips() == ()


def test_both_margins_are_told() -> None:
    sums = ClassSums()
    sums.update(np.array([[5.0, 3.0]]), np.array([[1.0, 4.0]]), ["a"])
    (flip,) = sums.flips()
    assert (flip.margin, flip.candidate_margin) == (2.0, 3.0)


def test_a_row_that_is_no_number_agrees_with_nothing_and_names_keep_their_rows() -> None:
    sums = ClassSums()
    wanted = np.array([[np.nan, 0.0], [1.0, 0.0], [3.0, 0.0]])
    drawn: list[int] = []
    sums.update(wanted, wanted[:, ::-1].copy(), list("abc"), lambda row: drawn.append(row) or f"picture {row}")
    assert sums.top1_agreement() == 0
    assert [(flip.id, flip.picture) for flip in sums.flips()] == [("c", "picture 2"), ("b", "picture 1")]


@pytest.mark.parametrize("step", [1, 7, 100])
def test_only_the_clearest_flips_are_kept_and_drawn_whatever_the_batches_are(step: int) -> None:
    wanted = np.zeros((100, 2))
    wanted[:, 0] = np.sort(RNG.uniform(1, 2, 100))[::-1]
    drawn: list[int] = []
    sums = ClassSums()
    for start in range(0, 100, step):
        part = wanted[start : start + step]
        sums.update(
            part,
            part[:, ::-1].copy(),
            [str(start + row) for row in range(len(part))],
            lambda row: drawn.append(row) or "x",
        )
    assert [flip.id for flip in sums.flips()] == [str(index) for index in range(MOST_FLIPS)]
    assert len(drawn) == MOST_FLIPS  # the largest margins came first


def test_without_classes_nothing_is_said() -> None:
    sums = ClassSums()
    assert (sums.top1_agreement(), sums.top5_agreement(), sums.divergence(), sums.by_class()) == (None, None, None, ())


@pytest.mark.parametrize(("rank", "agreement"), [(0, 1.0), (4, 1.0), (5, 0.0)])
def test_the_best_class_must_be_among_the_candidates_best_five(rank: int, agreement: float) -> None:
    sums = ClassSums()
    found = np.array([[6.0, 5, 4, 3, 2, 1]])
    sums.update(one_hot(rank, count=6), found, ["a"])
    assert sums.top5_agreement() == agreement


def test_a_clearer_flip_takes_the_place_of_one_that_came_before() -> None:
    wanted = np.zeros((MOST_FLIPS + 5, 2))
    wanted[:, 0] = np.arange(1, len(wanted) + 1)
    sums = ClassSums()
    sums.update(wanted, wanted[:, ::-1].copy(), [str(index) for index in range(len(wanted))])
    assert [flip.id for flip in sums.flips()] == [str(index) for index in range(MOST_FLIPS + 4, 4, -1)]


def test_the_divergence_is_the_mean_over_the_samples() -> None:
    rows = np.log(np.array([[0.5, 0.5], [0.5, 0.5]])), np.log(np.array([[0.5, 0.5], [0.9, 0.1]]))
    sums = ClassSums()
    sums.update(*rows, ["a", "b"])
    assert sums.divergence() == pytest.approx(0.5 * (0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)))
