from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from linglos_deploy.quantization.rounding import quantize_weight, scales_for

LIMITS = st.sampled_from([63, 127])
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(hnp.arrays(np.float32, st.integers(0, 20), elements=st.floats(0, np.finfo(np.float32).max, width=32)), LIMITS)
def test_scales_are_positive_finite_and_reach_the_bound(bounds: np.ndarray, limit: int) -> None:
    scales = scales_for(bounds, limit=limit)

    assert scales.dtype == np.float32
    assert np.isfinite(scales).all()
    assert (scales > 0).all()
    assert (scales.astype(np.float64) * limit >= bounds * (1 - 1e-6)).all()


@given(st.floats(2**-14 * 127, 65000 * 127, allow_nan=False), LIMITS)
def test_scales_are_float16_numbers_less_than_a_thousandth_too_large(bound: float, limit: int) -> None:
    scale = float(scales_for(bound, limit=limit)) if bound / limit <= 65504 else None

    if scale is not None:
        assert float(np.float16(scale)) == scale
        assert bound / limit <= scale <= bound / limit * 1.001


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5), elements=FINITE),
    st.integers(0, 1),
    LIMITS,
)
def test_weights_come_back_within_half_a_step(weight: np.ndarray, axis: int, limit: int) -> None:
    integers, scales = quantize_weight(weight, axis=axis, limit=limit)
    shape = [-1 if index == axis else 1 for index in range(weight.ndim)]
    steps = scales.astype(np.float64).reshape(shape)

    assert integers.dtype == np.int8
    assert integers.shape == weight.shape
    assert scales.shape == (weight.shape[axis],)
    assert np.abs(integers.astype(int)).max() <= limit
    assert (np.abs(integers * steps - weight) <= 0.5 * steps * (1 + 1e-5)).all()


def test_each_channel_uses_its_whole_range() -> None:
    weight = np.array([[0.1, -0.05], [100.0, 50.0]], np.float32)

    by_row, _ = quantize_weight(weight, axis=0, limit=127)
    by_column, _ = quantize_weight(weight, axis=1, limit=127)

    assert np.abs(by_row).max(axis=1).tolist() == [127, 127]
    assert np.abs(by_column).max(axis=0).tolist() == [127, 127]


@pytest.mark.parametrize("weight", [np.zeros((3, 2), np.float32), np.zeros((3, 0), np.float32)])
def test_a_channel_of_zeros_has_a_usable_scale(weight: np.ndarray) -> None:
    integers, scales = quantize_weight(weight, axis=0, limit=127)

    assert not integers.any()
    assert (scales > 0).all()
