"""Faults of graphs with Q/DQ pairs: wrong scales, zero points and integers, and pairs in the wrong place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.parity.faults import edits
from tests.parity.faults.planting import fault, planted_in

SCALED = "stages.2.0.act/Gelu_1"
"""The activation whose scale is wrong where only one is; ``SCALED_READER`` reads it."""
SCALED_READER = "stages.2.0.project.0/Conv"
WEIGHT = "stages.1.1.mlp.0"


@fault("a scale is 1.1 times too large, in Quantize only", layer=SCALED_READER)
def q_scale_by_a_tenth(model: onnx.ModelProto) -> None:
    _scale_one(model, 1.1, ("QuantizeLinear",))


@fault("a scale is 1.1 times too large, in Dequantize only", layer=SCALED_READER)
def dq_scale_by_a_tenth(model: onnx.ModelProto) -> None:
    _scale_one(model, 1.1, ("DequantizeLinear",))


@fault("a stale scale is 1.1 times too large", layer=SCALED_READER)
def scale_by_a_tenth(model: onnx.ModelProto) -> None:
    _scale_one(model, 1.1, ("QuantizeLinear", "DequantizeLinear"))


@fault("a scale is twice too large, in Quantize only", layer=SCALED_READER)
def q_scale_by_two(model: onnx.ModelProto) -> None:
    _scale_one(model, 2, ("QuantizeLinear",))


@fault("a scale is twice too large, in Dequantize only", layer=SCALED_READER)
def dq_scale_by_two(model: onnx.ModelProto) -> None:
    _scale_one(model, 2, ("DequantizeLinear",))


@fault("a stale scale is twice too large", layer=SCALED_READER)
def scale_by_two(model: onnx.ModelProto) -> None:
    _scale_one(model, 2, ("QuantizeLinear", "DequantizeLinear"))


@fault("a stale scale is half as large", layer=SCALED_READER)
def scale_by_a_half(model: onnx.ModelProto) -> None:
    _scale_one(model, 0.5, ("QuantizeLinear", "DequantizeLinear"))


@fault("a stale scale is 0.9 times as large", layer=SCALED_READER)
def scale_by_nine_tenths(model: onnx.ModelProto) -> None:
    _scale_one(model, 0.9, ("QuantizeLinear", "DequantizeLinear"))


@fault("all scales are 1.1 times too large, in Quantize only", layer=None)
def q_scales_by_a_tenth(model: onnx.ModelProto) -> None:
    _scale_all(model, 1.1, ("QuantizeLinear",))


@fault("all scales are 1.1 times too large, in Dequantize only", layer=None)
def dq_scales_by_a_tenth(model: onnx.ModelProto) -> None:
    _scale_all(model, 1.1, ("DequantizeLinear",))


@fault("all stale scales are 1.1 times too large", layer=None)
def scales_by_a_tenth(model: onnx.ModelProto) -> None:
    _scale_all(model, 1.1, ("QuantizeLinear", "DequantizeLinear"))


@fault("all stale scales are twice too large", layer=None)
def scales_by_two(model: onnx.ModelProto) -> None:
    _scale_all(model, 2, ("QuantizeLinear", "DequantizeLinear"))


@fault("an exponent bit of a scale is flipped", layer=SCALED_READER)
def flipped_scale(model: onnx.ModelProto) -> None:
    lowest = 23 if edits.constant(model, f"{SCALED}/scale").dtype.itemsize == 4 else 16 + 10
    edits.change(model, f"{SCALED}/scale", lambda scale: edits.flip_bit(scale, 0, lowest))


@fault("the sign of a scale is flipped", layer=SCALED_READER)
def negative_scale(model: onnx.ModelProto) -> None:
    edits.change(model, f"{SCALED}/scale", np.negative)


@fault("a zero point is 10, in Quantize only", layer=SCALED_READER)
def q_zero_point(model: onnx.ModelProto) -> None:
    _zero_point(model, ("QuantizeLinear",))


@fault("a zero point is 10, in Dequantize only", layer=SCALED_READER)
def dq_zero_point(model: onnx.ModelProto) -> None:
    _zero_point(model, ("DequantizeLinear",))


@fault("a zero point is 10 in both", layer=SCALED_READER)
def zero_point(model: onnx.ModelProto) -> None:
    _zero_point(model, ("QuantizeLinear", "DequantizeLinear"))


@fault("the zero point of a weight is 3", layer=f"{WEIGHT}/Conv")
def weight_zero_point(model: onnx.ModelProto) -> None:
    reader = edits.node(model, f"{WEIGHT}.weight/DequantizeLinear")
    edits.change(model, edits.own(model, reader, 2), lambda zeros: zeros + 3)


@fault("the scales of a weight are 1.1 times too large", layer=f"{WEIGHT}/Conv")
def weight_scales_by_a_tenth(model: onnx.ModelProto) -> None:
    edits.change(model, f"{WEIGHT}.weight/scale", lambda scales: scales * 1.1)


@fault("the scale of one output channel is 1.1 times too large", layer=f"{WEIGHT}/Conv")
def channel_scale_by_a_tenth(model: onnx.ModelProto) -> None:
    edits.change(model, f"{WEIGHT}.weight/scale", lambda scales: _with(scales, 3, scales[3] * 1.1))


@fault("the scale of one output channel is twice too large", layer=f"{WEIGHT}/Conv")
def channel_scale_by_two(model: onnx.ModelProto) -> None:
    edits.change(model, f"{WEIGHT}.weight/scale", lambda scales: _with(scales, 3, scales[3] * 2))


@fault("all channels of a weight have one scale", layer=f"{WEIGHT}/Conv")
def one_scale(model: onnx.ModelProto) -> None:
    edits.change(model, f"{WEIGHT}.weight/scale", lambda scales: np.full_like(scales, scales.max()))


@fault("the scales of a weight belong to the channels beside", layer=f"{WEIGHT}/Conv")
def rolled_scales(model: onnx.ModelProto) -> None:
    edits.change(model, f"{WEIGHT}.weight/scale", lambda scales: np.roll(scales, 1))


@fault("the scales of all weights are 1.1 times too large", layer=None)
def all_weight_scales(model: onnx.ModelProto) -> None:
    for found in edits.nodes(model, "DequantizeLinear"):
        if found.name.endswith("weight/DequantizeLinear"):
            edits.change(model, found.input[1], lambda scales: scales * 1.1)


@fault("a square weight is scaled along its inputs", layer="stages.1.1.attention.key/Conv")
def other_axis(model: onnx.ModelProto) -> None:
    reader = edits.node(model, "stages.1.1.attention.key.weight/DequantizeLinear")
    edits.set_attribute(reader, "axis", 1)


@fault("the weights of one layer are rounded down", layer=f"{WEIGHT}/Conv")
def rounded_down(model: onnx.ModelProto) -> None:
    """A weight whose fraction was above a half is one step lower; half of them are."""
    edits.change(
        model,
        f"{WEIGHT}.weight/int8",
        lambda integers: np.where(np.arange(integers.size).reshape(integers.shape) % 2, integers, integers - 1).clip(
            -127, 127
        ),
    )


@fault("one weight is off by one step", layer=f"{WEIGHT}/Conv")
def one_step(model: onnx.ModelProto) -> None:
    edits.change(model, f"{WEIGHT}.weight/int8", lambda integers: _with_flat(integers, 5, _step(integers, 5)))


@fault("the weights of one layer have 4 bits", layer=f"{WEIGHT}/Conv")
def four_bit_weights(model: onnx.ModelProto) -> None:
    edits.change(model, f"{WEIGHT}.weight/int8", lambda integers: np.rint(integers / 16.0) * 16)


@fault("the weights of one layer have 7 bits, consistently", layer=f"{WEIGHT}/Conv")
def seven_bit_weights(model: onnx.ModelProto) -> None:
    edits.change(model, f"{WEIGHT}.weight/int8", lambda integers: np.rint(integers / 2.0))
    edits.change(model, f"{WEIGHT}.weight/scale", lambda scales: scales * 2)


@fault("an activation has 4 bits", layer=SCALED_READER)
def four_bit_activation(model: onnx.ModelProto) -> None:
    edits.change(model, f"{SCALED}/scale", lambda scale: scale * 16)


@fault("the integers of a weight are zero", layer="stages.3.1.mlp.2/Conv")
def zero_integers(model: onnx.ModelProto) -> None:
    edits.change(model, "stages.3.1.mlp.2.weight/int8", np.zeros_like)


@fault("the whole last MLP is zero", layer="stages.3.1.mlp.0/Conv")
def zero_last_mlp(model: onnx.ModelProto) -> None:
    for part in ("mlp.0.weight/int8", "mlp.0.bias", "mlp.2.weight/int8", "mlp.2.bias"):
        edits.change(model, f"stages.3.1.{part}", np.zeros_like)


@fault("the sign bit of a weight is flipped", layer=f"{WEIGHT}/Conv")
def flipped_integer(model: onnx.ModelProto) -> None:
    edits.change(model, f"{WEIGHT}.weight/int8", lambda integers: edits.flip_bit(integers, 11, 31))


@fault("a middle bit of a weight is flipped", layer="stages.0.0.expand.0/Conv")
def flipped_middle_bit(model: onnx.ModelProto) -> None:
    edits.change(model, "stages.0.0.expand.0.weight/int8", lambda integers: edits.flip_bit(integers, 3, 28))


@fault("a square weight is transposed", layer="stages.1.1.attention.key/Conv")
def transposed_integers(model: onnx.ModelProto) -> None:
    edits.change(model, "stages.1.1.attention.key.weight/int8", lambda integers: np.swapaxes(integers, 0, 1))


@fault("one output channel is dead", layer="stages.1.0.expand.0/Conv")
def dead_integer_channel(model: onnx.ModelProto) -> None:
    edits.change(model, "stages.1.0.expand.0.weight/int8", lambda integers: _with(integers, 7, 0))


@fault("a bias is dropped", layer="stages.2.0.expand.0/Conv")
def dropped_bias(model: onnx.ModelProto) -> None:
    del edits.node(model, "stages.2.0.expand.0/Conv").input[2:]


@fault("the bias of a layer is rounded to 8 bits", layer="stages.2.0.expand.0/Conv")
def coarse_bias(model: onnx.ModelProto) -> None:
    def coarse(bias: np.ndarray) -> np.ndarray:
        step = np.abs(bias.astype(np.float32)).max() / 127
        return np.rint(bias.astype(np.float32) / step) * step

    edits.change(model, "stages.2.0.expand.0.bias", coarse)


@fault("a pair is missing", layer=SCALED_READER)
def missing_pair(model: onnx.ModelProto) -> None:
    reader = edits.node(model, SCALED_READER)
    reader.input[0] = SCALED
    edits.drop(model, f"{SCALED}/DequantizeLinear")
    edits.drop(model, f"{SCALED}/QuantizeLinear")


@fault("a pair stands before the activation function instead of after it", layer="stages.2.0.act/Gelu_1")
def early_pair(model: onnx.ModelProto) -> None:
    before = edits.node(model, "stages.2.0.act/Gelu_1").input[0]
    edits.node(model, SCALED_READER).input[0] = SCALED
    edits.node(model, "stages.2.0.act/Gelu_1").input[0] = f"{SCALED}/dequantized"
    quantize, dequantize = (edits.node(model, f"{SCALED}/{kind}Linear") for kind in ("Quantize", "Dequantize"))
    quantize.input[0] = before
    pair = [onnx.NodeProto.FromString(found.SerializeToString()) for found in (quantize, dequantize)]
    edits.drop(model, quantize.name)
    edits.drop(model, dequantize.name)
    edits.insert_before(model, edits.node(model, "stages.2.0.act/Gelu_1"), pair)


@fault("a shortcut reads the rounded tensor too", layer="stages.0.0/Add")
def rounded_shortcut(model: onnx.ModelProto) -> None:
    edits.node(model, "stages.0.0/Add").input[0] = "stem.3/Gelu/dequantized"


@fault("a layer that the plan left in floating point reads a pair", layer=None)
def rounded_gate(model: onnx.ModelProto) -> None:
    rounded = {found.output[0]: found.input[0] for found in edits.nodes(model, "QuantizeLinear")}
    results: dict[str, str] = {}
    for found in model.graph.node:
        if found.op_type == "DequantizeLinear" and found.input[0] in rounded:
            results[rounded[found.input[0]]] = found.output[0]
        elif found.op_type not in ("QuantizeLinear", "Add", "Cast") and found.input[0] in results:
            found.input[0] = results[found.input[0]]
            return
    raise LookupError


@fault("a tensor is rounded twice", layer=SCALED_READER)
def doubled_pair(model: onnx.ModelProto) -> None:
    names = list(edits.node(model, f"{SCALED}/QuantizeLinear").input)[1:]
    reader = edits.node(model, SCALED_READER)
    made = [
        helper.make_node("QuantizeLinear", [reader.input[0], *names], ["again/int8"], "again/QuantizeLinear"),
        helper.make_node("DequantizeLinear", ["again/int8", *names], ["again"], "again/DequantizeLinear"),
    ]
    reader.input[0] = "again"
    edits.insert_before(model, reader, made)


@fault("an activation is quantized without a sign", layer=SCALED_READER)
def unsigned(model: onnx.ModelProto) -> None:
    zero = edits.add_constant(model, "unsigned/zero", np.array(0, np.uint8))
    for kind in ("QuantizeLinear", "DequantizeLinear"):
        edits.node(model, f"{SCALED}/{kind}").input[2] = zero
    for value in model.graph.value_info:
        if value.name == f"{SCALED}/int8":
            value.type.tensor_type.elem_type = TensorProto.UINT8


@fault("the scales of two activations are swapped", layer=None)
def swapped_scales(model: onnx.ModelProto) -> None:
    names = f"{SCALED}/scale", "stages.2.0.act/Gelu/scale"
    first, second = (edits.constant(model, name) for name in names)
    edits.change(model, names[0], lambda _: second)
    edits.change(model, names[1], lambda _: first)


def _scale_one(model: onnx.ModelProto, factor: float, kinds: tuple[str, ...]) -> None:
    shared = None
    for kind in kinds:
        reader = edits.node(model, f"{SCALED}/{kind}")
        if shared is None:
            shared = edits.own(model, reader, 1)
            edits.change(model, shared, _times(factor))
        reader.input[1] = shared


def _scale_all(model: onnx.ModelProto, factor: float, kinds: tuple[str, ...]) -> None:
    quantizers = edits.nodes(model, "QuantizeLinear")
    made: dict[str, str] = {}
    for quantizer in quantizers:
        pair = [quantizer, *(n for n in edits.nodes(model, "DequantizeLinear") if n.input[0] == quantizer.output[0])]
        for found in pair:
            if found.op_type in kinds:
                old = found.input[1]
                if old not in made:
                    made[old] = edits.own(model, found, 1)
                    edits.change(model, made[old], _times(factor))
                found.input[1] = made[old]


def _zero_point(model: onnx.ModelProto, kinds: tuple[str, ...]) -> None:
    for kind in kinds:
        edits.change(model, edits.own(model, edits.node(model, f"{SCALED}/{kind}"), 2), lambda zero: zero + 10)


def _times(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda values: values * factor


def _with(values: np.ndarray, row: int, new: object) -> np.ndarray:
    changed = values.copy()
    changed[row] = new
    return changed


def _with_flat(values: np.ndarray, place: int, new: object) -> np.ndarray:
    changed = values.copy()
    changed.reshape(-1)[place] = new
    return changed


def _step(values: np.ndarray, place: int) -> int:
    found = int(values.reshape(-1)[place])
    return found + 1 if found < 100 else found - 1


INTEGER_FAULTS = planted_in(__name__)
