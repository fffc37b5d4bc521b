from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from linglos_deploy.exporters.narrowing import LARGEST, SMALLEST_NORMAL, Loss, loss, narrow

KINDS = [ir.DataType.FLOAT16, ir.DataType.BFLOAT16]
UNIT = {ir.DataType.FLOAT16: 2.0**-11, ir.DataType.BFLOAT16: 2.0**-8}
any_float = st.floats(width=32, allow_nan=False)
constants = arrays(np.float32, st.integers(1, 20), elements=any_float)


def wide(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float64)


@pytest.mark.parametrize("kind", KINDS)
@given(values=constants)
def test_infinities_signs_and_zeros_are_kept(kind, values):
    found = wide(narrow(values, kind))
    infinite = np.isinf(values)
    np.testing.assert_array_equal(found[infinite], values[infinite])
    assert np.all((np.sign(found) == np.sign(values)) | (found == 0))
    assert np.all(found[values == 0] == 0)


@pytest.mark.parametrize("kind", KINDS)
@given(values=constants)
def test_a_constant_that_loses_nothing_is_within_twice_the_unit_roundoff(kind, values):
    if loss(values, kind) is not Loss.NOTHING:
        return
    found, exact = wide(narrow(values, kind)), wide(values)
    finite = np.isfinite(exact)
    assert np.isfinite(found[finite]).all()
    largest = np.abs(exact[finite]).max(initial=0.0) or 1.0
    error = np.linalg.norm((found[finite] - exact[finite]) / largest)
    assert error <= 2 * UNIT[kind] * np.linalg.norm(exact[finite] / largest)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_ordinary_constants_lose_nothing(kind, data):
    low = float(np.float32(SMALLEST_NORMAL[kind]))
    ordinary = st.floats(low, float(np.float32(LARGEST[kind])), width=32)
    values = data.draw(
        arrays(np.float32, st.integers(1, 20), elements=ordinary | ordinary.map(lambda x: -x) | st.just(0.0))
    )
    assert loss(values, kind) is Loss.NOTHING


@pytest.mark.parametrize("kind", KINDS)
@given(values=constants, place=st.integers(0, 19), sign=st.sampled_from([1, -1]))
def test_one_finite_number_beyond_the_largest_is_a_loss(kind, values, place, sign):
    beyond = np.float32(3.4e38) if kind == ir.DataType.BFLOAT16 else np.float32(65520)
    values = values.copy()
    values[place % len(values)] = sign * beyond
    assert loss(values, kind) is Loss.HUGE
    assert np.isinf(wide(narrow(values, kind))[place % len(values)])


@given(
    value=st.floats(2.0**-149, 2.0**-26, width=32), others=arrays(np.float32, 3, elements=st.floats(1, 100, width=32))
)
def test_a_tiny_number_is_a_loss_alone_and_none_among_larger_ones(value, others):
    assert loss(np.float32([value]), ir.DataType.FLOAT16) is Loss.TINY
    assert loss(np.append(others, np.float32(value)), ir.DataType.FLOAT16) is Loss.NOTHING


@pytest.mark.parametrize("values", [[], [np.nan], [np.inf, -np.inf], [0.0, -0.0]])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_where_there_is_nothing_to_lose(values, kind):
    assert loss(np.float32(values), kind) is Loss.NOTHING


@pytest.mark.parametrize("place", [0, -1])
def test_a_large_constant_is_looked_at_to_its_end(place):
    values = np.full((1 << 20) + 5, 1e-9, dtype=np.float32)
    assert loss(values, ir.DataType.FLOAT16) is Loss.TINY
    values[place] = 7e4
    assert loss(values, ir.DataType.FLOAT16) is Loss.HUGE
    values[place] = 1.0
    assert loss(values, ir.DataType.FLOAT16) is Loss.NOTHING
