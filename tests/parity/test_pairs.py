"""What a pair and a dequantized weight must be by arithmetic alone, number by number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from linglos_deploy.parity.pairs import Pair, Weight, pair_differences, weight_differences
from linglos_deploy.quantization.placement import DEFAULT, find_placement

SCALE, ZERO = np.float32(0.25).reshape(()), np.array(0, np.int8)
PAIR = Pair("x", "reader", "layer", "q", "dq", (SCALE, SCALE), (ZERO, ZERO), ("int8", "int8"))
VALUES = np.array([[1.27, -0.5, 0.004], [-2.54, 1.0, 0.0]], np.float32)
STEPS = np.array([0.01, 0.02], np.float32)
INTEGERS = np.array([[127, -50, 0], [-127, 50, 0]], np.int8)
WEIGHT = Weight("w", "reader", "layer", "dq", "the constant 'w'", VALUES, INTEGERS, STEPS, None, 0)


def found(pair: Pair) -> list[str]:
    return [difference.what for difference in pair_differences(pair, find_placement(DEFAULT))]


def wrong(weight: Weight, element: ir.DataType | None = None) -> list[str]:
    return [difference.what for difference in weight_differences(weight, element)]


def test_a_pair_that_is_right_has_no_difference() -> None:
    assert found(PAIR) == []
    assert found(replace(PAIR, zeros=(None, None))) == []


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"scales": (SCALE, None)}, ["scale"]),
        ({"scales": (np.float32([1, 2]), np.float32([1, 2]))}, ["scale"]),
        ({"scales": (SCALE, np.nextafter(SCALE, np.float32(1)))}, ["the two scales of a pair"]),
        ({"scales": (-SCALE, -SCALE)}, ["scale"]),
        ({"scales": (SCALE * 0, SCALE * 0)}, ["scale"]),
        ({"scales": (SCALE * np.inf, SCALE * np.inf)}, ["scale"]),
        ({"zeros": (ZERO + 1, ZERO)}, ["zero point", "the two zero points of a pair"]),
        ({"zeros": (ZERO, ZERO + 1)}, ["zero point", "the two zero points of a pair"]),
        ({"zeros": (ZERO + 1, ZERO + 1)}, ["zero point", "zero point"]),
        ({"types": ("uint8", "uint8")}, ["zero point", "zero point"]),
        ({"types": ("int8", "int16")}, ["zero point"]),
    ],
)
def test_each_part_of_a_pair_is_looked_at(change: dict[str, object], what: list[str]) -> None:
    assert found(replace(PAIR, **change)) == what  # type: ignore[arg-type]


def test_a_weight_that_is_right_has_no_difference() -> None:
    assert wrong(WEIGHT) == []
    assert wrong(replace(WEIGHT, zero=np.zeros(2, np.int8))) == []
    one = np.float32(0.02).reshape(())
    assert wrong(replace(WEIGHT, scales=one, integers=np.rint(VALUES / one).astype(np.int8))) == []


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"wanted": None}, "weight"),
        ({"integers": None}, "weight"),
        ({"integers": INTEGERS.T}, "weight"),
        ({"zero": np.array([0, 1], np.int8)}, "zero point"),
        ({"integers": INTEGERS.astype(np.int16)}, "zero point"),
        ({"scales": np.array([0.01, 0.0], np.float32)}, "scales of a weight"),
        ({"scales": np.array([0.01, np.inf], np.float32)}, "scales of a weight"),
        ({"scales": np.array([0.01, 0.02, 0.02], np.float32)}, "scales of a weight"),
        ({"scales": STEPS[::-1].copy()}, "4 of 6 integers of a weight"),
        ({"integers": INTEGERS + np.array([[0, 0, 1], [0, 0, 0]], np.int8)}, "1 of 6 integers of a weight"),
        (
            {"scales": STEPS * np.float32(1.5), "integers": np.rint(VALUES / STEPS[:, None] / 1.5).astype(np.int8)},
            "scale of output channel 0",
        ),
    ],
)
def test_each_part_of_a_weight_is_looked_at(change: dict[str, object], what: str) -> None:
    assert wrong(replace(WEIGHT, **change))[0] == what  # type: ignore[arg-type]


@pytest.mark.parametrize("whole", [3, 120])
@pytest.mark.parametrize(("off", "passed"), [(0.4999, True), (0.52, False)])
def test_half_a_step_is_the_limit(off: float, passed: bool, whole: int) -> None:
    values = np.array([[127.0, whole + off]], np.float32)
    weight = replace(WEIGHT, wanted=values, integers=np.array([[127, whole]], np.int8), scales=np.ones(1, np.float32))
    assert (not wrong(weight)) is passed


@pytest.mark.parametrize(("wider", "passed"), [(1.0, True), (1 + 2.0**-10, True), (1 + 2.0**-8, False)])
def test_a_scale_may_be_rounded_up_to_float16_and_no_further(wider: float, passed: bool) -> None:
    steps = np.array([wider / 127], np.float32)
    values = np.array([[1.0, 0.5]], np.float32)
    integers = np.rint(values / steps).astype(np.int8)
    assert (not wrong(replace(WEIGHT, wanted=values, integers=integers, scales=steps))) is passed


@pytest.mark.parametrize(("largest", "passed"), [(127, True), (126, False), (63, True), (62, False)])
def test_a_scale_uses_all_integers_of_8_or_of_7_bits(largest: int, passed: bool) -> None:
    values = np.array([[1.0, 0.0]], np.float32)
    weight = replace(
        WEIGHT,
        wanted=values,
        integers=np.array([[largest, 0]], np.int8),
        scales=np.array([1 / largest], np.float32),
    )
    assert (not wrong(weight)) is passed


def test_the_smallest_scale_of_a_type_may_be_wider_than_needed() -> None:
    tiny = np.array([[1e-6, 0.0]], np.float32)
    steps = np.array([2.0**-24], np.float16)
    weight = replace(WEIGHT, wanted=tiny, integers=np.rint(tiny / steps).astype(np.int8), scales=steps)
    assert wrong(weight, ir.DataType.FLOAT16) == []
    assert wrong(replace(weight, scales=steps.astype(np.float32))) == ["scale of output channel 0"]


def test_a_wide_scale_of_16_bits_is_seen_too() -> None:
    wide = replace(WEIGHT, scales=STEPS * 2, integers=np.rint(VALUES / STEPS[:, None] / 2).astype(np.int8))
    for element in (None, ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
        steps = wide.scales if element is None else wide.scales.astype(element.numpy())  # type: ignore[union-attr]
        assert "scale of output channel 0" in wrong(replace(wide, scales=steps), element)


def test_a_dead_channel_may_have_any_scale() -> None:
    dead = replace(WEIGHT, wanted=VALUES * 0, integers=INTEGERS * 0)
    assert wrong(dead) == []
