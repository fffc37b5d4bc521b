"""INT32 biases as a graph has them, held against the arithmetic of the sum that they are added to.

    integers -> DequantizeLinear(scale of the data x scales of the weight, 0) -> the layer's third input

The sum of products of two small integers counts in steps of both scales, multiplied; a bias in the same steps is added
without another rounding than its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from linglos_deploy.parity.nodes import Array, name_of, numbers_of
from linglos_deploy.parity.pairs import HALF_STEP, Weight
from linglos_deploy.quantization.placement import Placement
from linglos_deploy.reports.parity import StructuralDifference

_SAME = 1e-6
"""Relative difference up to which a scale is the product of two others."""


@dataclass(frozen=True, slots=True, eq=False)
class Bias:
    """A bias that the candidate dequantizes.

    Attributes:
        constant: The constant that it is.
        node: The layer of the candidate that reads it; ``None`` if it is not read as a bias.
        steps: What a step of that layer's sums is worth, per output channel; ``None`` where its data or its weight is
            not made of integers.
    """

    constant: Weight
    node: ir.Node | None
    steps: Array | None

    @classmethod
    def read(cls, constant: Weight, reader: ir.Node | None, made: ir.Value) -> Bias:
        """Read a bias from the candidate; ``made`` is what its dequantizer makes."""
        if reader is None or len(reader.inputs) < 3 or reader.inputs[2] is not made:
            return cls(constant, None, None)
        makers = [None if value is None else value.producer() for value in reader.inputs[:2]]
        scales = [
            numbers_of(maker.inputs[1]) for maker in makers if maker is not None and maker.op_type == "DequantizeLinear"
        ]
        if len(scales) != 2 or scales[0] is None or scales[1] is None or scales[0].size != 1:
            return cls(constant, reader, None)
        return cls(constant, reader, scales[1].astype(np.float64) * float(scales[0].reshape(())))


def bias_differences(bias: Bias, placement: Placement) -> Iterator[StructuralDifference]:
    """Yield what is wrong with a dequantized bias, whatever was planned."""
    constant = bias.constant
    wanted, integers, scales = constant.wanted, constant.integers, constant.scales

    def differ(what: str, expected: str, found: str) -> StructuralDifference:
        return StructuralDifference(constant.dequantizer, constant.layer, what, expected, found)

    if bias.node is None or bias.node.op_type not in placement.biases:
        yield differ("an INT32 constant", constant.origin, "INT32")
        return
    if not constant.fits or wanted is None or integers is None or scales is None or wanted.ndim != 1:
        yield differ("an INT32 bias", constant.origin, "a constant of another shape")
        return
    if bias.steps is None or (constant.zero is not None and constant.zero.any()):
        found = "other zero points" if bias.steps is not None else f"'{name_of(bias.node)}' reads floating point"
        yield differ("an INT32 bias", "zero points of 0, beside integer data and weights", found)
        return
    steps = np.broadcast_to(bias.steps, wanted.shape) if bias.steps.size in (1, wanted.size) else bias.steps
    if scales.shape != steps.shape or not np.allclose(scales.astype(np.float64), steps, rtol=_SAME, atol=0):
        shown = f"{scales.reshape(-1)[0]:.9g}, …" if scales.size else "none"
        yield differ("scales of a bias", f"{steps.reshape(-1)[0]:.9g}, …: those of data and weights, multiplied", shown)
        return
    whole = integers.astype(np.float64)
    off = np.abs(wanted.astype(np.float64) / scales.astype(np.float64) - whole) - np.abs(whole) * 2.0**-23
    if (worst := off.max(initial=0.0)) > HALF_STEP:
        count = np.count_nonzero(off > HALF_STEP)
        yield differ(
            f"{count} of {off.size} integers of a bias",
            "within half a step of the parent's bias",
            f"up to {worst:.3g} steps away",
        )
