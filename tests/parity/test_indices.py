"""Class indices are compared for being equal: half of 2 is no half of a class."""

from __future__ import annotations

import numpy as np
import pytest

from linglos_deploy.choices import Precision
from linglos_deploy.parity.criteria import read_criteria
from linglos_deploy.parity.metrics import Difference
from linglos_deploy.parity.verdict import Criteria, judge


def agreement(share: float, precision: Precision, *, trained: bool) -> bool:
    truth = np.zeros((2, 10, 50), np.uint8)
    other = truth.copy()
    other.reshape(-1)[: round((1 - share) * 1000)] = 200
    difference = Difference(indices=True)
    difference.update(truth, other)
    criteria = Criteria.for_precision(precision, trained=trained).with_indices(["classes"], trained=trained)
    return all(result.passed for result in judge(difference.metrics(), criteria.of("classes")))


def test_agreement_is_the_share_of_equal_numbers() -> None:
    difference = Difference(indices=True)
    difference.update(np.array([[1, 2], [3, 255]], np.uint8), np.array([[1, 2], [0, 255]], np.float32))
    found = difference.metrics()
    assert found.top1_agreement == 0.75
    assert (found.kl_divergence, found.top5_agreement) == (None, None)


@pytest.mark.parametrize(
    ("share", "precision", "trained", "passes"),
    [
        (0.95, Precision.INT8, True, True),
        (0.85, Precision.INT8, True, False),
        (0.85, Precision.INT8, False, True),  # a matter of chance
        (0.998, Precision.FP32, True, False),
        (0.998, Precision.FP32, False, False),
        (1.0, Precision.FP32, False, True),
    ],
)
def test_limits_on_equal_indices(share: float, precision: Precision, trained: bool, passes: bool) -> None:
    assert agreement(share, precision, trained=trained) is passes


def test_limits_on_nearness_in_a_file_do_not_reach_indices_and_those_on_agreement_do(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "parity.toml").write_text("[int8]\nsqnr_db = 25\ntop1_agreement = 0.97\n")
    file = read_criteria(tmp_path / "parity.toml")
    criteria = Criteria.for_precision(Precision.INT8).with_indices(["classes"], trained=True)
    limits = file.apply(criteria, backend="onnxruntime")
    assert (limits.of("classes").sqnr_db, limits.of("classes").top1_agreement) == (None, 0.97)
    assert limits.of("scores").sqnr_db == 25
    assert limits.indices == {"classes"}
