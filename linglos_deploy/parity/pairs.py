"""Q/DQ pairs and dequantized weights as a graph has them, held against the arithmetic of rounding.

    tensor -> QuantizeLinear(scale, zero) -> DequantizeLinear(scale, zero) -> reader        a pair
    integers -> DequantizeLinear(scales, zero, axis) -> reader                              a weight

Both halves of a pair are alike, and of the integers that the runtime's placement asks for; a weight lies within half a
step of its integer, and its scales are no larger than it asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from linglos_deploy.parity.nodes import Array, constant_of, name_of, numbers_of, show_origin
from linglos_deploy.quantization.placement import Placement
from linglos_deploy.quantization.rounding import ACTIVATION_LIMIT
from linglos_deploy.reports.parity import StructuralDifference

SCALE_SLACK = 2.0**-9
"""How much larger a scale may be than its bound asks for: scales are rounded up to what float16 holds."""
HALF_STEP = 0.5 + 1e-4
"""Distance of a weight from its integer, in steps; the division that found the integer is rounded too."""
_SMALLEST_HALF = 2.0**-24
_SMALLEST_NORMAL = 2.0**-126


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A Q/DQ pair of the candidate.

    Attributes:
        tensor: The parent's tensor that it rounds.
        reader: The candidate's node that reads it.
        layer: What the parent calls that node.
        quantizer: Name of its first half.
        dequantizer: Name of its second half.
        scales: Of both halves; ``None`` where one is not a constant.
        zeros: Zero points of both halves; ``None`` where there is none.
        types: Integer types of both halves.
    """

    tensor: str
    reader: str
    layer: str
    quantizer: str
    dequantizer: str
    scales: tuple[Array | None, Array | None]
    zeros: tuple[Array | None, Array | None]
    types: tuple[str, str]

    @classmethod
    def read(cls, tensor: str, quantizer: ir.Node, dequantizer: ir.Node, *, reader: str, layer: str) -> Pair:
        """Read a pair from the candidate."""
        zeros = _zero_of(quantizer), _zero_of(dequantizer)
        return cls(
            tensor=tensor,
            reader=reader,
            layer=layer,
            quantizer=name_of(quantizer),
            dequantizer=name_of(dequantizer),
            scales=(numbers_of(quantizer.inputs[1]), numbers_of(dequantizer.inputs[1])),
            zeros=zeros,
            types=(_integer_type(quantizer, zeros[0]), _integer_type(dequantizer, zeros[1])),
        )

    @property
    def scale(self) -> float | None:
        """The scale of the first half, ``None`` if a half has none that is one constant number."""
        first, second = self.scales
        return None if first is None or second is None or first.size != 1 else float(first.reshape(()))

    @property
    def zero_points(self) -> tuple[int, int]:
        """The integers that stand for zero in both halves."""
        first, second = (0 if zero is None or not zero.size else int(zero.reshape(-1)[0]) for zero in self.zeros)
        return first, second


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """A weight that the candidate dequantizes.

    Attributes:
        weight: The parent's name of it.
        reader: The candidate's node that reads it.
        layer: What the parent calls that node.
        dequantizer: Name of the node that dequantizes it.
        origin: Where the parent has it from, in words.
        wanted: The parent's values; ``None`` if they are no constant.
        integers: The candidate's.
        scales: One, or one for each slice along ``axis``.
        zero: The zero point; ``None`` if there is none.
        axis: Along which it is scaled.
    """

    weight: str
    reader: str
    layer: str
    dequantizer: str
    origin: str
    wanted: Array | None
    integers: Array | None
    scales: Array | None
    zero: Array | None
    axis: int

    @classmethod
    def read(cls, parents: ir.Value, dequantizer: ir.Node, *, reader: str, layer: str) -> Weight:
        """Read a weight from the candidate.

        Args:
            parents: What the parent has in its place.
            dequantizer: The candidate's node that makes it.
            reader: The candidate's node that reads it.
            layer: What the parent calls that node.
        """
        wanted = constant_of(parents)
        axis = dequantizer.attributes["axis"].as_int() if "axis" in dequantizer.attributes else 1
        return cls(
            weight=str(parents.name),
            reader=reader,
            layer=layer,
            dequantizer=name_of(dequantizer),
            origin=show_origin(parents),
            wanted=wanted,
            integers=numbers_of(dequantizer.inputs[0]),
            scales=numbers_of(dequantizer.inputs[1]),
            zero=_zero_of(dequantizer),
            axis=axis % max(0 if wanted is None else wanted.ndim, 1),
        )

    def read_by(self, reader: str, layer: str) -> Weight:
        """Return the same weight for another reader."""
        return replace(self, reader=reader, layer=layer)

    @property
    def largest(self) -> int:
        """Its largest integer."""
        return 0 if self.integers is None else int(np.abs(self.integers.astype(np.int32)).max(initial=0))

    @property
    def fits(self) -> bool:
        """Whether both sides are constants of one shape."""
        return (
            self.wanted is not None
            and self.integers is not None
            and self.scales is not None
            and self.wanted.shape == self.integers.shape
        )


def smallest_step(element: ir.DataType | None) -> float:
    """Return the distance of the smallest scales that the candidate's floating point holds."""
    return _SMALLEST_HALF if element is ir.DataType.FLOAT16 else _SMALLEST_NORMAL


def differs(whose: Pair | Weight, what: str, *, expected: str, found: str, node: str = "") -> StructuralDifference:
    """Return a difference of a pair or a weight: at ``node``, else at the first half of a pair or a weight's one."""
    first = whose.quantizer if isinstance(whose, Pair) else whose.dequantizer
    return StructuralDifference(node or first, whose.layer, what, expected, found)


def pair_differences(pair: Pair, placement: Placement) -> Iterator[StructuralDifference]:
    """Yield what is wrong with a pair, whatever was planned."""
    value = pair.scale
    if value is None:
        yield differs(pair, "scale", expected="one constant number", found="something else")
        return
    first, second = pair.scales
    assert first is not None
    assert second is not None
    if first.tobytes() != second.tobytes():
        yield differs(
            pair,
            "the two scales of a pair",
            expected=f"{value:.9g} as in '{pair.quantizer}'",
            found=f"{float(second.reshape(-1)[0]):.9g}",
            node=pair.dequantizer,
        )
    for node, zero, kind in zip((pair.quantizer, pair.dequantizer), pair.zeros, pair.types, strict=True):
        free = placement.zero_points and zero is not None and zero.size == 1
        if kind != placement.integers or (zero is not None and zero.any() and not free):
            shown = "none" if zero is None else zero.reshape(-1)[0]
            expected = f"{'one number' if placement.zero_points else '0'} of {placement.integers}"
            yield differs(pair, "zero point", expected=expected, found=f"{shown} of {kind}", node=node)
    if pair.zero_points[0] != pair.zero_points[1]:
        yield differs(
            pair,
            "the two zero points of a pair",
            expected=f"{pair.zero_points[0]} as in '{pair.quantizer}'",
            found=str(pair.zero_points[1]),
            node=pair.dequantizer,
        )
    if not (np.isfinite(value) and value > 0):
        yield differs(pair, "scale", expected="a positive, finite number", found=str(value))


def weight_differences(weight: Weight, element: ir.DataType | None) -> Iterator[StructuralDifference]:
    """Yield what is wrong with a dequantized weight, whatever was planned.

    Args:
        weight: What both graphs have.
        element: The candidate's 16-bit type, ``None`` if it has none.
    """
    wanted, integers, scales = weight.wanted, weight.integers, weight.scales
    if not weight.fits or wanted is None or integers is None or scales is None:
        yield differs(
            weight,
            "weight",
            expected=weight.origin if wanted is None else f"integers of shape {list(wanted.shape)}",
            found="a dequantized constant" if integers is None else f"integers of shape {list(integers.shape)}",
        )
        return
    if integers.dtype != np.int8 or (weight.zero is not None and weight.zero.any()):
        found = f"another one, of {integers.dtype}"
        yield differs(weight, "zero point", expected="0 of int8", found=found)
    steps = scales.astype(np.float64)
    if not (np.isfinite(steps) & (steps > 0)).all() or (steps.ndim and steps.shape != (wanted.shape[weight.axis],)):
        yield differs(
            weight,
            "scales of a weight",
            expected=f"{wanted.shape[weight.axis]} positive, finite numbers",
            found=f"{steps.size} numbers from {steps.min():.3g} to {steps.max():.3g}",
        )
        return
    yield from _far_integers(weight, wanted, integers, scales)
    yield from _wide_scales(weight, wanted, integers, steps, element)


def _far_integers(weight: Weight, wanted: Array, integers: Array, scales: Array) -> Iterator[StructuralDifference]:
    grid = scales.astype(np.float64)
    if grid.ndim:
        grid = grid.reshape([-1 if index == weight.axis else 1 for index in range(wanted.ndim)])
    whole = integers.astype(np.float64)
    rounding = 2.0**-11 if scales.dtype != np.float32 else 2.0**-23
    off = np.abs(wanted.astype(np.float64) / grid - whole) - np.abs(whole) * rounding
    if (worst := off.max(initial=0.0)) > HALF_STEP:
        yield differs(
            weight,
            f"{np.count_nonzero(off > HALF_STEP)} of {off.size} integers of a weight",
            expected="within half a step of the parent's weight",
            found=f"up to {worst:.3g} steps away",
        )


def _wide_scales(
    weight: Weight, wanted: Array, integers: Array, steps: Array, element: ir.DataType | None
) -> Iterator[StructuralDifference]:
    magnitudes = np.abs(wanted.astype(np.float64))
    others = tuple(index for index in range(wanted.ndim) if index != weight.axis)
    bounds = magnitudes.max(axis=others, initial=0.0) if steps.ndim else magnitudes.max(initial=0.0)
    limit = 63 if weight.largest <= 63 else ACTIVATION_LIMIT
    needed = bounds / limit
    wide = (steps > needed * (1 + SCALE_SLACK) + smallest_step(element)) & (bounds > 0)
    if wide.any():
        place = int(np.argmax(np.where(wide, steps / np.maximum(needed, 1e-300), 0)))
        yield differs(
            weight,
            f"scale of output channel {place}",
            expected=f"{needed.reshape(-1)[place]:.6g}, which just holds the largest weight",
            found=f"{steps.reshape(-1)[place]:.6g}",
        )


def _zero_of(node: ir.Node) -> Array | None:
    return numbers_of(node.inputs[2]) if len(node.inputs) > 2 else None


def _integer_type(node: ir.Node, zero: Array | None) -> str:
    if zero is not None:
        return str(zero.dtype)
    if "output_dtype" in node.attributes and node.op_type == "QuantizeLinear":
        return str(ir.DataType(node.attributes["output_dtype"].as_int()).numpy())
    return "uint8" if node.op_type == "QuantizeLinear" else "int8"
