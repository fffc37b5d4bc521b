"""Nothing is clipped."""

from __future__ import annotations

import numpy as np
import pytest

from linglos_deploy.calibration.observers import observe
from linglos_deploy.calibration.thresholds import threshold


@pytest.mark.parametrize("values", [[-3.0, 2.0], [0.0, 1e-3], [5.0, np.inf]])
def test_the_bound_is_the_largest_finite_magnitude(values: list[float]) -> None:
    seen = np.array([values], np.float32)
    assert threshold(observe(seen), "absmax") == np.abs(seen[np.isfinite(seen)]).max()
