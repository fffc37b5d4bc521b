from __future__ import annotations

from typing import Any

import numpy as np

from linglos_deploy.parity.accuracy import count_correct


def test_correct_images_are_counted_over_batches(runner: Any) -> None:
    logits = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0]]
    batches = [{"image": logits[:3]}, {"image": logits[3:]}]

    assert count_correct(runner(logits=lambda x: x), batches, [0, 1, 0, 3, 1], output="logits") == 3


def test_a_row_with_nan_is_never_correct(runner: Any) -> None:
    logits = np.array([[1.0, np.nan], [1.0, 0.0]], np.float32)

    assert count_correct(runner(logits=lambda x: x), [{"image": logits}], [1, 0], output="logits") == 1
