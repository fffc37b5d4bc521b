from __future__ import annotations

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from linglos_deploy.choices import Precision
from linglos_deploy.quantization.rounding import (
    bias_fits,
    grid_between,
    quantize_bias,
    quantize_weight,
    scale_type,
    scales_for,
    scales_under_bias,
    weight_scales,
)


def rounded(
    weight: np.ndarray, *, axis: int, limit: int, dtype: npt.DTypeLike = np.float32
) -> tuple[np.ndarray, np.ndarray]:
    """Return the integers and scales of a weight."""
    scales = weight_scales(weight, axis=axis, limit=limit, dtype=dtype)
    return quantize_weight(weight, scales, axis=axis, limit=limit), scales


LIMITS = st.sampled_from([63, 127])
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(hnp.arrays(np.float32, st.integers(0, 20), elements=st.floats(0, np.finfo(np.float32).max, width=32)), LIMITS)
def test_scales_are_positive_finite_and_reach_the_bound(bounds: np.ndarray, limit: int) -> None:
    scales = scales_for(bounds, limit=limit)

    assert scales.dtype == np.float32
    assert np.isfinite(scales).all()
    assert (scales > 0).all()
    assert (scales.astype(np.float64) * limit >= bounds * (1 - 1e-6)).all()


@pytest.mark.parametrize(
    ("dtype", "coarseness"), [(np.float32, 2**-23), (np.float16, 2**-10), (ml_dtypes.bfloat16, 2**-7)]
)
@given(bound=st.floats(2**-14 * 127, 65000 * 63, allow_nan=False), limit=LIMITS)
def test_scales_are_numbers_of_the_type_and_too_large_by_its_coarseness_at_most(
    dtype: type, coarseness: float, bound: float, limit: int
) -> None:
    scale = float(scales_for(bound, limit=limit, dtype=dtype))

    assert float(np.asarray(scale).astype(dtype)) == scale
    assert bound / limit <= scale <= bound / limit * (1 + coarseness)


def test_tiny_weights_use_all_their_steps_in_float32_and_float16s_finest_step_in_float16() -> None:
    weight = np.linspace(-1e-6, 1e-6, 9, dtype=np.float32).reshape(3, 3)

    integers, scales = rounded(weight, axis=0, limit=127)
    assert np.abs(integers).max(axis=1).tolist() == [127, 127, 127]
    assert np.abs(integers * scales[:, None] - weight).max() < 1e-8

    _, short = rounded(weight, axis=0, limit=127, dtype=np.float16)
    assert short.tolist() == [2**-24] * 3


def test_the_type_of_a_16_bit_graph_goes_before_what_float32_parts_become() -> None:
    assert scale_type(np.dtype(np.float32), Precision.FP32) == np.float32
    assert scale_type(np.dtype(np.float32), Precision.FP16) == np.float16
    assert scale_type(np.dtype(np.float16), Precision.FP32) == np.float16
    assert scale_type(np.dtype(ml_dtypes.bfloat16), Precision.FP16) == ml_dtypes.bfloat16


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5), elements=FINITE),
    st.integers(0, 1),
    LIMITS,
)
def test_weights_come_back_within_half_a_step(weight: np.ndarray, axis: int, limit: int) -> None:
    integers, scales = rounded(weight, axis=axis, limit=limit)
    shape = [-1 if index == axis else 1 for index in range(weight.ndim)]
    steps = scales.astype(np.float64).reshape(shape)

    assert integers.dtype == np.int8
    assert integers.shape == weight.shape
    assert scales.shape == (weight.shape[axis],)
    assert np.abs(integers.astype(int)).max() <= limit
    assert (np.abs(integers * steps - weight) <= 0.5 * steps * (1 + 1e-5)).all()


def test_each_channel_uses_its_whole_range() -> None:
    weight = np.array([[0.1, -0.05], [100.0, 50.0]], np.float32)

    by_row, _ = rounded(weight, axis=0, limit=127)
    by_column, _ = rounded(weight, axis=1, limit=127)

    assert np.abs(by_row).max(axis=1).tolist() == [127, 127]
    assert np.abs(by_column).max(axis=0).tolist() == [127, 127]


@pytest.mark.parametrize("weight", [np.zeros((3, 2), np.float32), np.zeros((3, 0), np.float32)])
def test_a_channel_of_zeros_has_a_usable_scale(weight: np.ndarray) -> None:
    integers, scales = rounded(weight, axis=0, limit=127)

    assert not integers.any()
    assert (scales > 0).all()


@given(st.floats(-1e4, 0), st.floats(0, 1e4))
def test_steps_between_two_limits_hold_zero_exactly_and_reach_both_within_a_step(low: float, high: float) -> None:
    if high - low < 1e-3:
        high += 1.0
    scale, zero = grid_between(low, high)

    assert 0 <= zero <= 255
    values = (np.arange(256) - zero) * scale
    assert (values == 0).any()
    assert values[0] <= low + scale
    assert values[-1] >= high - scale
    assert values[-1] - values[0] <= (high - low) * (1 + 1e-6)


def test_a_range_from_zero_spends_no_step_below_it() -> None:
    assert grid_between(0.0, 255.0) == (1.0, 0)
    assert grid_between(-255.0, 0.0) == (1.0, 255)


def test_a_bias_comes_back_within_half_a_step_of_the_sum() -> None:
    bias, steps = np.array([0.5, -3.0], np.float32), np.array([1e-5, 3e-4], np.float32)
    integers = quantize_bias(bias, steps)
    assert integers.dtype == np.int32
    assert np.abs(integers * steps.astype(np.float64) - bias).max() <= 0.5 * 3e-4


def test_channels_of_zeros_leave_room_for_their_bias_and_tiny_ones_tell_that_theirs_does_not_fit() -> None:
    bias = np.array([5.0, 5.0], np.float32)
    dead = np.array([[0.0, 0.0], [0.1, 0.2]], np.float32)
    scales = weight_scales(dead, axis=0, limit=127)
    assert bias_fits(bias, dead, axis=0, limit=127, data=1e-3)
    assert bias[0] / (scales[0] * 1e-3) > 2**31  # would overflow

    roomy = scales_under_bias(scales, dead, bias, axis=0, data=1e-3)
    assert bias[0] / (roomy[0].astype(np.float64) * 1e-3) < 2**30
    assert roomy[1] == scales[1]

    tiny = np.array([[1e-9, 0.0], [0.1, 0.2]], np.float32)
    assert not bias_fits(bias, tiny, axis=0, limit=127, data=1e-3)
