"""Faults of graphs in floating point, float32 or 16 bits: wrong weights, wrong operators, wrong wiring."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from tests.parity.faults import edits
from tests.parity.faults.planting import fault, planted_in

KEY = "stages.1.1.attention.key"
LAST = "stages.3.1"


@fault("the stem's colour channels are swapped", layer="stem.0.0/Conv")
def swapped_channels(model: onnx.ModelProto) -> None:
    edits.change(model, "stem.0.0.weight", lambda weight: weight[:, ::-1])


@fault("the normalization of pixels is missing", layer="stem.0.0/Conv")
def no_normalization(model: onnx.ModelProto) -> None:
    std, mean = edits.add_constant(model, "std", np.float32(0.35)), edits.add_constant(model, "mean", np.float32(0.3))
    edits.tap_input(
        model,
        lambda before, after: [
            helper.make_node("Mul", [before, std], ["raw"], "std"),
            helper.make_node("Add", ["raw", mean], [after], "mean"),
        ],
    )


@fault("the mean of another data set is subtracted", layer="stem.0.0/Conv")
def other_mean(model: onnx.ModelProto) -> None:
    mean = edits.add_constant(
        model, "mean", np.array([0.485 - 0.3, 0.456 - 0.3, 0.406 - 0.3], np.float32).reshape(1, 3, 1, 1) / 0.35
    )
    edits.tap_input(model, lambda before, after: [helper.make_node("Sub", [before, mean], [after], "mean")])


@fault("pixels are clipped to -0.8 and 1.5", layer="stem.0.0/Conv")
def clipped_pixels(model: onnx.ModelProto) -> None:
    low, high = edits.add_constant(model, "low", np.float32(-0.8)), edits.add_constant(model, "high", np.float32(1.5))
    edits.tap_input(model, lambda before, after: [helper.make_node("Clip", [before, low, high], [after], "clip")])


@fault("height and width are swapped", layer="stem.0.0/Conv")
def swapped_sides(model: onnx.ModelProto) -> None:
    edits.tap_input(
        model, lambda before, after: [helper.make_node("Transpose", [before], [after], "turn", perm=[0, 1, 3, 2])]
    )


@fault("a square weight is transposed", layer=f"{KEY}/Conv")
def transposed_weight(model: onnx.ModelProto) -> None:
    edits.change(model, f"{KEY}.weight", lambda weight: np.swapaxes(weight, 0, 1))


@fault("the second layer of the last MLP is zero", layer=f"{LAST}.mlp.2/Conv")
def zeroed_mlp(model: onnx.ModelProto) -> None:
    edits.change(model, f"{LAST}.mlp.2.weight", np.zeros_like)


@fault("the whole last MLP is zero", layer=f"{LAST}.mlp.0/Conv")
def zeroed_last_mlp(model: onnx.ModelProto) -> None:
    for part in ("mlp.0.weight", "mlp.0.bias", "mlp.2.weight", "mlp.2.bias"):
        edits.change(model, f"{LAST}.{part}", np.zeros_like)


@fault("a depthwise weight is zero", layer="stages.2.0.depthwise.0/Conv")
def zeroed_depthwise(model: onnx.ModelProto) -> None:
    edits.change(model, "stages.2.0.depthwise.0.weight", np.zeros_like)


@fault("an exponent bit of one weight is flipped", layer="stages.1.0.project.0/Conv")
def flipped_exponent(model: onnx.ModelProto) -> None:
    edits.change(model, "stages.1.0.project.0.weight", lambda weight: edits.flip_bit(weight, _median(weight), 30))


@fault("the lowest exponent bit of one weight is flipped", layer="stages.2.1.mlp.0/Conv")
def flipped_low_exponent(model: onnx.ModelProto) -> None:
    lowest = 23 if edits.constant(model, "stages.2.1.mlp.0.weight").dtype.itemsize == 4 else 16 + 10
    edits.change(model, "stages.2.1.mlp.0.weight", lambda weight: edits.flip_bit(weight, _largest(weight), lowest))


@fault("the sign of the largest weight is flipped", layer="downsamples.1.expand.0/Conv")
def flipped_sign(model: onnx.ModelProto) -> None:
    edits.change(model, "downsamples.1.expand.0.weight", lambda weight: edits.flip_bit(weight, _largest(weight), 31))


@fault("the sign of a middling weight is flipped", layer="stages.3.0.expand.0/Conv")
def flipped_middling_sign(model: onnx.ModelProto) -> None:
    edits.change(model, "stages.3.0.expand.0.weight", lambda weight: edits.flip_bit(weight, _median(weight), 31))


@fault("the sign of a bias is flipped", layer="stages.0.0.project.0/Conv")
def flipped_bias(model: onnx.ModelProto) -> None:
    edits.change(model, "stages.0.0.project.0.bias", lambda bias: edits.flip_bit(bias, _largest(bias), 31))


@fault("one output channel is dead", layer="stages.1.0.expand.0/Conv")
def dead_channel(model: onnx.ModelProto) -> None:
    edits.change(model, "stages.1.0.expand.0.weight", lambda weight: _with_row(weight, 7, 0))
    edits.change(model, "stages.1.0.expand.0.bias", lambda bias: _with_row(bias, 7, 0))


@fault("all biases of convolutions are dropped", layer=None)
def no_biases(model: onnx.ModelProto) -> None:
    for convolution in edits.nodes(model, "Conv"):
        del convolution.input[2:]


@fault("one bias is dropped", layer="downsamples.2.project.0/Conv")
def no_bias(model: onnx.ModelProto) -> None:
    del edits.node(model, "downsamples.2.project.0/Conv").input[2:]


@fault("the epsilon of one LayerNorm is 1e-3", layer="stages.1.1.norm1/LayerNormalization")
def large_epsilon(model: onnx.ModelProto) -> None:
    edits.set_attribute(edits.node(model, "stages.1.1.norm1/LayerNormalization"), "epsilon", 1e-3)


@fault("the epsilon of all LayerNorms is 1e-3", layer=None)
def large_epsilons(model: onnx.ModelProto) -> None:
    for norm in edits.nodes(model, "LayerNormalization"):
        edits.set_attribute(norm, "epsilon", 1e-3)


@fault("LayerNorm normalizes another axis", layer="stages.2.1.norm2/LayerNormalization")
def other_norm_axis(model: onnx.ModelProto) -> None:
    norm = edits.node(model, "stages.2.1.norm2/LayerNormalization")
    edits.set_attribute(norm, "axis", 1)


@fault("one GELU is the tanh approximation", layer="stages.0.1.mlp.1/Gelu")
def tanh_gelu(model: onnx.ModelProto) -> None:
    edits.set_attribute(edits.node(model, "stages.0.1.mlp.1/Gelu"), "approximate", "tanh")


@fault("all GELUs are the tanh approximation", layer=None)
def tanh_gelus(model: onnx.ModelProto) -> None:
    for gelu in edits.nodes(model, "Gelu"):
        edits.set_attribute(gelu, "approximate", "tanh")


@fault("a ReLU stands where a GELU belongs", layer="stages.3.0.act/Gelu_1")
def relu(model: onnx.ModelProto) -> None:
    gelu = edits.node(model, "stages.3.0.act/Gelu_1")
    gelu.op_type = "Relu"
    del gelu.attribute[:]


@fault("softmax runs over heads instead of positions", layer="stages.2.1.attention.gate/Softmax")
def softmax_axis(model: onnx.ModelProto) -> None:
    edits.set_attribute(edits.node(model, "stages.2.1.attention.gate/Softmax"), "axis", 1)


@fault("the scores of one gate are 5 % too large", layer="stages.1.1.attention.gate/MatMul")
def warm_softmax(model: onnx.ModelProto) -> None:
    gate = edits.node(model, "stages.1.1.attention.gate/MatMul")
    edits.change(model, edits.own(model, gate, 0), lambda weight: weight * 1.05)


@fault("a gate is zero, so that attention is uniform", layer="stages.3.1.attention.gate/MatMul")
def uniform_attention(model: onnx.ModelProto) -> None:
    gate = edits.node(model, "stages.3.1.attention.gate/MatMul")
    edits.change(model, edits.own(model, gate, 0), np.zeros_like)


@fault("the shortcut of a convolution layer is dropped", layer="stages.1.0/Add")
def no_shortcut(model: onnx.ModelProto) -> None:
    _without(model, "stages.1.0/Add", keep=1)


@fault("the shortcut around an attention is dropped", layer="stages.2.1/Add")
def no_attention_shortcut(model: onnx.ModelProto) -> None:
    _without(model, "stages.2.1/Add", keep=1)


@fault("an attention branch is switched off", layer="stages.2.1/Add")
def no_attention(model: onnx.ModelProto) -> None:
    _without(model, "stages.2.1/Add", keep=0)


@fault("the last MLP is switched off", layer=f"{LAST}/Add_1")
def no_last_mlp(model: onnx.ModelProto) -> None:
    _without(model, f"{LAST}/Add_1", keep=0)


@fault("two heads are swapped", layer="stages.3.1.attention.gate/MatMul")
def swapped_heads(model: onnx.ModelProto) -> None:
    gate = edits.node(model, "stages.3.1.attention.gate/MatMul")
    name = edits.own(model, gate, 0)
    order = list(range(edits.constant(model, name).shape[-2]))
    order[0], order[1] = order[1], order[0]
    edits.change(model, name, lambda weight: weight[..., order, :])


@fault("every image answers with the mean of the batch", layer="ReduceMean")
def whole_leak(model: onnx.ModelProto) -> None:
    leak(model, "ReduceMean", 1.0)


@fault("a tenth of every image leaks into the others", layer="ReduceMean")
def leak_of_a_tenth(model: onnx.ModelProto) -> None:
    leak(model, "ReduceMean", 0.1)


@fault("a twentieth of every image leaks into the others", layer="stages.2.0/Add")
def leak_of_a_twentieth(model: onnx.ModelProto) -> None:
    leak(model, "stages.2.0/Add", 0.05)


@fault("a twentieth of the logits leaks into the other images", layer="head/Gemm")
def leak_of_logits(model: onnx.ModelProto) -> None:
    leak(model, "logits", 0.05)


@fault("the weights of one layer have 4 bits", layer="stages.2.0.project.0/Conv")
def four_bits(model: onnx.ModelProto) -> None:
    def coarse(weight: np.ndarray) -> np.ndarray:
        step = np.abs(weight.astype(np.float32)).max() / 7
        return np.rint(weight.astype(np.float32) / step) * step

    edits.change(model, "stages.2.0.project.0.weight", coarse)


@fault("the weights of one layer went through bfloat16", layer="stages.1.1.mlp.2/Conv")
def through_bfloat16(model: onnx.ModelProto) -> None:
    def shortened(weight: np.ndarray) -> np.ndarray:
        return (weight.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)

    edits.change(model, "stages.1.1.mlp.2.weight", shortened)


@fault("one weight is 1 % too large", layer="stages.0.1.attention.out/Conv")
def large_weight(model: onnx.ModelProto) -> None:
    edits.change(model, "stages.0.1.attention.out.weight", lambda weight: weight * np.float32(1.01))


@fault("one output channel is 10 % too large", layer="stages.3.1.mlp.0/Conv")
def large_channel(model: onnx.ModelProto) -> None:
    edits.change(model, "stages.3.1.mlp.0.weight", lambda weight: _with_row(weight, 3, weight[3] * np.float32(1.1)))


@fault("one weight is not a number", layer="stages.1.0.project.0/Conv")
def nan_weight(model: onnx.ModelProto) -> None:
    edits.change(model, "stages.1.0.project.0.weight", lambda weight: _with_row(weight, 0, np.nan))


@fault("the weights of two layers of one shape are swapped", layer=None)
def swapped_layers(model: onnx.ModelProto) -> None:
    names = "stages.1.1.attention.key.weight", "stages.1.1.attention.out.weight"
    first, second = (edits.constant(model, name) for name in names)
    edits.change(model, names[0], lambda _: second)
    edits.change(model, names[1], lambda _: first)


@fault("a convolution is padded on one side only", layer="stages.2.0.depthwise.0/Conv")
def shifted_padding(model: onnx.ModelProto) -> None:
    edits.set_attribute(edits.node(model, "stages.2.0.depthwise.0/Conv"), "pads", [0, 0, 2, 2])


@fault("a convolution is dilated", layer="stages.1.0.depthwise.0/Conv")
def dilated(model: onnx.ModelProto) -> None:
    convolution = edits.node(model, "stages.1.0.depthwise.0/Conv")
    edits.set_attribute(convolution, "dilations", [2, 2])
    edits.set_attribute(convolution, "pads", [2, 2, 2, 2])


@fault("the kernel of a depthwise convolution is turned", layer="downsamples.0.depthwise.0/Conv")
def turned_kernel(model: onnx.ModelProto) -> None:
    edits.change(model, "downsamples.0.depthwise.0.weight", lambda weight: np.swapaxes(weight, 2, 3))


@fault("the channels of a depthwise convolution are shuffled", layer="stages.3.0.depthwise.0/Conv")
def shuffled_channels(model: onnx.ModelProto) -> None:
    edits.change(model, "stages.3.0.depthwise.0.weight", lambda weight: np.roll(weight, 1, axis=0))


@fault("two classes are swapped", layer="head/Gemm")
def swapped_classes(model: onnx.ModelProto) -> None:
    for name in ("head.weight", "head.bias"):
        edits.change(model, name, lambda values: values[[0, 1, 2, 7, 4, 5, 6, 3, 8, 9]])


@fault("the bias of the head is dropped", layer="head/Gemm")
def no_head_bias(model: onnx.ModelProto) -> None:
    del edits.node(model, "head/Gemm").input[2:]


@fault("the largest value is taken instead of the mean", layer="ReduceMean")
def maximum(model: onnx.ModelProto) -> None:
    edits.node(model, "ReduceMean").op_type = "ReduceMax"


@fault("the last normalization has no offset", layer="norm/LayerNormalization")
def no_norm_bias(model: onnx.ModelProto) -> None:
    del edits.node(model, "norm/LayerNormalization").input[2:]


@fault("a normalization is left out", layer="stages.1.1.norm2/LayerNormalization")
def no_norm(model: onnx.ModelProto) -> None:
    _without(model, "stages.1.1.norm2/LayerNormalization", keep=0)


def leak(model: onnx.ModelProto, tensor: str, share: float) -> None:
    """Let each image answer with some of the batch's mean."""
    kind = edits.element_type(model, tensor)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    part = edits.add_constant(model, "leak/share", np.array(share, dtype))
    axes = edits.add_constant(model, "leak/axes", np.array([0], np.int64))
    edits.tap(
        model,
        tensor,
        lambda before, after: [
            helper.make_node("ReduceMean", [before, axes], ["leak/mean"], "leak/mean", keepdims=1),
            helper.make_node("Sub", ["leak/mean", before], ["leak/other"], "leak/other"),
            helper.make_node("Mul", ["leak/other", part], ["leak/part"], "leak/part"),
            helper.make_node("Add", [before, "leak/part"], [after], "leak/add"),
        ],
    )


def _without(model: onnx.ModelProto, name: str, *, keep: int) -> None:
    """Let one input of a node through in its place."""
    found = edits.node(model, name)
    edits.rewire(model, found.output[0], found.input[keep])
    edits.drop(model, name)


def _with_row(values: np.ndarray, row: int, new: object) -> np.ndarray:
    changed = values.copy()
    changed[row] = new
    return changed


def _largest(values: np.ndarray) -> int:
    return int(np.abs(values.astype(np.float32)).argmax())


def _median(values: np.ndarray) -> int:
    return int(np.argsort(np.abs(values.astype(np.float32)).reshape(-1))[values.size // 2])


FLOAT_FAULTS = planted_in(__name__)
