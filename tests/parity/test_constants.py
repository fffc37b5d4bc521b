"""Constants of a derived graph: the parent's to the bit, or as 16 bits round them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from linglos_deploy.parity.constants import rounded_alike

HALF = ir.DataType.FLOAT16
MOST = float(np.finfo(np.float16).max)


def test_without_16_bits_a_constant_is_the_parents_to_the_bit() -> None:
    values = np.array([0.1, -2.0], np.float32)
    assert rounded_alike(values, values.copy(), None)
    assert not rounded_alike(values, np.nextafter(values, np.float32(9)), None)
    assert not rounded_alike(values, values.astype(np.float64), None)


@pytest.mark.parametrize("element", [None, HALF])
def test_another_shape_is_another_constant_whatever_it_holds(element: ir.DataType | None) -> None:
    values = np.ones((2, 3), np.float32)
    assert not rounded_alike(values, np.ones((3, 2), np.float32), element)
    assert not rounded_alike(values, np.ones((1,), np.float32), element)
    assert not rounded_alike(values, np.ones((3, 2), np.float16), element)


def test_only_float32_may_become_16_bits() -> None:
    whole = np.array([1, 2], np.int64)
    assert not rounded_alike(whole, whole.astype(np.float16), HALF)
    assert not rounded_alike(np.array([1.0]), np.array([1.0], np.float16), HALF)


def test_in_a_16_bit_graph_a_constant_may_stay_float32_to_the_bit_and_no_third_type() -> None:
    values = np.array([0.1, -2.0], np.float32)
    assert rounded_alike(values, values.astype(np.float16), HALF)
    assert rounded_alike(values, values, HALF)
    assert not rounded_alike(values, values + np.float32(1e-6), HALF)
    assert not rounded_alike(values, values.astype(np.float16).astype(np.float64), HALF)
    bfloat = ir.DataType.BFLOAT16.numpy()
    assert not rounded_alike(np.array([1.0], np.float32), np.array([1.0], bfloat), HALF)


@pytest.mark.parametrize(("kept", "alike"), [(MOST, True), (np.inf, True), (1.0, False), (-MOST, False)])
def test_what_16_bits_cannot_hold_is_the_largest_number_or_infinity_of_its_sign(kept: float, alike: bool) -> None:
    assert rounded_alike(np.array([1e9], np.float32), np.array([kept], np.float16), HALF) is alike
