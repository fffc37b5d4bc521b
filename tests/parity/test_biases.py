"""What an INT32 bias must be by arithmetic alone, number by number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from linglos_deploy.parity.biases import Bias, bias_differences
from linglos_deploy.parity.pairs import Weight
from linglos_deploy.quantization.placement import DEFAULT, find_placement

PLACEMENT = find_placement("onnxruntime-x86")
LAYER = ir.Node("", sorted(PLACEMENT.biases)[0], [])
STEPS = np.array([0.01, 0.02])
SCALES = STEPS.astype(np.float32)
WANTED, INTEGERS = np.array([1.0, -3.0], np.float32), np.array([100, -150], np.int32)
CONSTANT = Weight("b", "reader", "layer", "dq", "the constant 'b'", WANTED, INTEGERS, SCALES, None, 0)
BIAS = Bias(CONSTANT, LAYER, STEPS)


def told(bias: Bias) -> list[str]:
    return [f"{found.what}: {found.found}" for found in bias_differences(bias, PLACEMENT)]


def with_constant(**change: object) -> Bias:
    return replace(BIAS, constant=replace(CONSTANT, **change))  # type: ignore[arg-type]


def test_a_bias_that_is_right_has_no_difference() -> None:
    assert told(BIAS) == []
    assert told(with_constant(zero=np.zeros(2, np.int32))) == []


def test_only_a_bias_of_a_layer_that_the_placement_names_may_be_integers() -> None:
    assert told(replace(BIAS, node=None)) == ["an INT32 constant: INT32"]
    assert told(replace(BIAS, node=ir.Node("", "Add", []))) == ["an INT32 constant: INT32"]
    assert [*bias_differences(BIAS, find_placement(DEFAULT))]


def test_a_bias_of_integers_needs_data_and_weights_of_integers() -> None:
    assert told(replace(BIAS, steps=None)) == [f"an INT32 bias: '{LAYER.name}' reads floating point"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"wanted": WANTED.reshape(1, 2), "integers": INTEGERS.reshape(1, 2)}, "a constant of another shape"),
        ({"wanted": None}, "a constant of another shape"),
        ({"zero": np.array([0, 1], np.int32)}, "other zero points"),
        ({"scales": SCALES[:1]}, "0.00999999978, …"),
        ({"scales": np.array([0.25, 0.5], np.float32)}, "0.25, …"),
        ({"integers": INTEGERS + np.array([0, 1], np.int32)}, "up to 1 steps away"),
    ],
)
def test_each_part_of_a_bias_is_looked_at(change: dict[str, object], what: str) -> None:
    (found,) = told(with_constant(**change))
    assert found.partition(": ")[2] == what
