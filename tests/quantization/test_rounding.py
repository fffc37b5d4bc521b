from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from linglos_deploy.choices import Precision
from linglos_deploy.quantization.rounding import quantize_weight, scale_type, scales_for

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

    integers, scales = quantize_weight(weight, axis=0, limit=127)
    assert np.abs(integers).max(axis=1).tolist() == [127, 127, 127]
    assert np.abs(integers * scales[:, None] - weight).max() < 1e-8

    _, short = quantize_weight(weight, axis=0, limit=127, dtype=np.float16)
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
