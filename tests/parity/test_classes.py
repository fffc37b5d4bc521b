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
