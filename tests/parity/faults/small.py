"""Faults of the pyramid, a network that is not LinGlo: wiring, types, places in a batch, sizes and rare values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.parity.faults import edits
from tests.parity.faults.planting import fault, planted_in


@fault("two channels are swapped where the scales meet", layer="Resize")
def swapped_in_the_middle(model: onnx.ModelProto) -> None:
    order = edits.add_constant(model, "order", np.array([0, 1, 2, 9, 4, 5, 6, 7, 8, 3, *range(10, 16)]))
    edits.tap(
        model, "Resize", lambda before, after: [helper.make_node("Gather", [before, order], [after], "swap", axis=1)]
    )


@fault("the outputs of a layer and the inputs of the next are permuted alike, but for two", layer=None)
def permuted_but_two(model: onnx.ModelProto) -> None:
    order = np.roll(np.arange(16), 5)
    other = order.copy()
    other[[2, 11]] = other[[11, 2]]
    for name in ("down.weight", "down.bias"):
        edits.change(model, name, lambda values: values[order])
    edits.change(model, "lateral.weight", lambda values: values[:, other])


@fault("the finer scale is made of nearest neighbours", layer="Resize")
def nearest(model: onnx.ModelProto) -> None:
    edits.set_attribute(edits.node(model, "Resize"), "mode", "nearest")


@fault("the corners of both scales are aligned", layer="Resize")
def aligned_corners(model: onnx.ModelProto) -> None:
    edits.set_attribute(edits.node(model, "Resize"), "coordinate_transformation_mode", "align_corners")


@fault("the finer scale is sampled without the half pixel", layer="Resize")
def asymmetric(model: onnx.ModelProto) -> None:
    edits.set_attribute(edits.node(model, "Resize"), "coordinate_transformation_mode", "asymmetric")


@fault("the border is repeated, not mirrored", layer="stem/Pad")
def repeated_border(model: onnx.ModelProto) -> None:
    edits.set_attribute(edits.node(model, "stem/Pad"), "mode", "edge")


@fault("the padding stands on the other side", layer="down/Conv")
def other_padding(model: onnx.ModelProto) -> None:
    edits.set_attribute(edits.node(model, "down/Conv"), "pads", [2, 1, 0, 1])


@fault("the clip is missing", layer="Clip")
def no_clip(model: onnx.ModelProto) -> None:
    clip = edits.node(model, "Clip")
    edits.rewire(model, "Clip", clip.input[0])
    edits.drop(model, "Clip")


@fault("the clip's upper end is 2 % higher", layer="Clip")
def wider_clip(model: onnx.ModelProto) -> None:
    edits.change(model, edits.own(model, edits.node(model, "Clip"), 2), lambda value: value * 1.02)


@fault("what only extremes reach is clipped in the middle", layer=None)
def rare_clip(model: onnx.ModelProto) -> None:
    """Golden images and noise reach 2.7 before the first GELU, extremes 3.6."""
    ends = [
        edits.add_constant(model, name, np.float32(end), like="down.bias") for name, end in (("low", -1e4), ("high", 3))
    ]
    edits.tap(model, "down/Conv", lambda before, after: [helper.make_node("Clip", [before, *ends], [after], "rare")])


@fault("one GELU is the tanh approximation", layer="Gelu_1")
def tanh_in_the_middle(model: onnx.ModelProto) -> None:
    edits.set_attribute(edits.node(model, "Gelu_1"), "approximate", "tanh")


@fault("softmax runs over queries, as many as keys", layer="Softmax")
def softmax_over_queries(model: onnx.ModelProto) -> None:
    edits.set_attribute(edits.node(model, "Softmax"), "axis", -2)


@fault("queries and keys are exchanged", layer=None)
def exchanged(model: onnx.ModelProto) -> None:
    split = edits.node(model, "norm1/Split")
    split.output[:] = [split.output[1], split.output[0], split.output[2]]


@fault("scores are scaled by the width of all heads", layer="Mul")
def other_temperature(model: onnx.ModelProto) -> None:
    edits.change(model, edits.own(model, edits.node(model, "Mul"), 1), lambda value: value / np.sqrt(2))


@fault("the mean leaves the last position out", layer=None)
def short_mean(model: onnx.ModelProto) -> None:
    names = [
        edits.add_constant(model, name, np.array([value]))
        for name, value in (("first", 0), ("last", -1), ("axis", 1), ("step", 1))
    ]
    reader = edits.node(model, "ReduceMean")
    made = helper.make_node("Slice", [reader.input[0], *names], ["shorter"], "shorter")
    reader.input[0] = "shorter"
    edits.insert_before(model, reader, [made])


@fault("a bias is 1 % larger", layer="merge/Conv")
def scaled_bias(model: onnx.ModelProto) -> None:
    edits.change(model, "merge.bias", lambda bias: bias * 1.01)


@fault("an epsilon is ten times smaller", layer="norm2/LayerNormalization")
def small_epsilon(model: onnx.ModelProto) -> None:
    edits.set_attribute(edits.node(model, "norm2/LayerNormalization"), "epsilon", 1e-6)


@fault("a float32 graph carries one tensor in 16 bits", layer="Gelu_1")
def through_half(model: onnx.ModelProto) -> None:
    if edits.element_type(model, "Gelu_1") != TensorProto.FLOAT or edits.nodes(model, "Cast"):
        raise LookupError("other graphs carry 16 bits anyway")
    edits.tap(
        model,
        "Gelu_1",
        lambda before, after: [
            helper.make_node("Cast", [before], ["half"], "half", to=TensorProto.FLOAT16),
            helper.make_node("Cast", ["half"], [after], "full", to=TensorProto.FLOAT),
        ],
    )


@fault("the weights of one layer went through 16 bits", layer="merge/Conv")
def half_weights(model: onnx.ModelProto) -> None:
    if edits.constant(model, "merge.weight").dtype != np.float32:
        raise LookupError("they are of 16 bits")
    edits.change(model, "merge.weight", lambda weight: weight.astype(np.float16))


@fault("a twentieth of the image before leaks in", layer="Add_1")
def leak_from_before(model: onnx.ModelProto) -> None:
    """The last image becomes the first's neighbour; alone, an image is its own."""
    _mix(model, "Add_1", lambda batch, value: [*_turned(model, batch, value)], 0.05)


@fault("images are normalized over the batch, by a twentieth", layer="AveragePool")
def leak_of_a_mean(model: onnx.ModelProto) -> None:
    axes = edits.add_constant(model, "leak/axes", np.array([0]))
    _mix(
        model,
        "AveragePool",
        lambda mixed, value: [helper.make_node("ReduceMean", [value, axes], [mixed], "leak/mean", keepdims=1)],
        0.05,
    )


@fault("the largest of a batch leaks in, by a twentieth", layer="Add_2")
def leak_of_the_largest(model: onnx.ModelProto) -> None:
    axes = edits.add_constant(model, "leak/axes", np.array([0]))
    _mix(
        model,
        "Add_2",
        lambda mixed, value: [helper.make_node("ReduceMax", [value, axes], [mixed], "leak/largest", keepdims=1)],
        0.05,
    )


@fault("the answers of a batch come in reverse", layer="head/Gemm")
def reversed_batch(model: onnx.ModelProto) -> None:
    names = _slices(model)
    edits.tap(model, "logits", lambda before, after: [helper.make_node("Slice", [before, *names], [after], "reverse")])


@fault("every batch but one of a single image is 1 % too large", layer="Add_1")
def only_in_batches(model: onnx.ModelProto) -> None:
    _when(model, "Add_1", axis=0, op_type="Greater", than=1)


@fault("the last image of a batch is 1 % too large", layer="head/Gemm")
def only_the_last(model: onnx.ModelProto) -> None:
    factor = edits.add_constant(model, "last/factor", np.array([[1.01]], np.float32), like="head.bias")
    ends = [
        edits.add_constant(model, f"last/{name}", np.array([value]))
        for name, value in (("zero", 0), ("minus", -1), ("end", 2**31))
    ]
    edits.tap(
        model,
        "logits",
        lambda before, after: [
            helper.make_node("Slice", [before, ends[0], ends[1], ends[0]], ["last/others"], "last/others"),
            helper.make_node("Slice", [before, ends[1], ends[2], ends[0]], ["last/one"], "last/one"),
            helper.make_node("Mul", ["last/one", factor], ["last/larger"], "last/larger"),
            helper.make_node("Concat", ["last/others", "last/larger"], [after], "last/together", axis=0),
        ],
    )


@fault("images of another height than the usual one are 1 % too large", layer=None)
def only_at_another_size(model: onnx.ModelProto) -> None:
    _when(model, "AveragePool", axis=2, op_type="Less", than=4)


@fault("one class has an offset of 1e-3", layer="head/Gemm")
def offset_class(model: onnx.ModelProto) -> None:
    edits.change(model, "head.bias", lambda bias: bias + np.float32(1e-3) * np.eye(5, dtype=np.float32)[3])


@fault("two rows of two layers are exchanged", layer=None)
def crossed_biases(model: onnx.ModelProto) -> None:
    first, second = edits.constant(model, "down.bias"), edits.constant(model, "lateral.bias")
    edits.change(model, "down.bias", lambda _: second)
    edits.change(model, "lateral.bias", lambda _: first)


def _slices(model: onnx.ModelProto) -> list[str]:
    return [
        edits.add_constant(model, f"turn/{name}", np.array([value]))
        for name, value in (("start", -1), ("end", -(2**31)), ("axis", 0), ("step", -1))
    ]


def _turned(model: onnx.ModelProto, mixed: str, value: str) -> Sequence[onnx.NodeProto]:
    return [helper.make_node("Slice", [value, *_slices(model)], [mixed], "leak/turned")]


def _mix(model: onnx.ModelProto, tensor: str, make: object, share: float) -> None:
    """Let each image answer with a share of something that is made from the whole batch."""
    like = "down.bias"
    parts = [edits.add_constant(model, f"leak/{part}", np.float32(part), like=like) for part in (1 - share, share)]
    edits.tap(
        model,
        tensor,
        lambda before, after: [
            *make("leak/mixed", before),  # type: ignore[operator]
            helper.make_node("Mul", [before, parts[0]], ["leak/own"], "leak/own"),
            helper.make_node("Mul", ["leak/mixed", parts[1]], ["leak/other"], "leak/other"),
            helper.make_node("Add", ["leak/own", "leak/other"], [after], "leak/add"),
        ],
    )


def _when(model: onnx.ModelProto, tensor: str, *, axis: int, op_type: str, than: int) -> None:
    """Make a tensor 1 % larger where one of its sizes is so."""
    limit = edits.add_constant(model, "when/limit", np.array([than]))
    factor = edits.add_constant(model, "when/factor", np.array(1.01, np.float32), like="down.bias")
    edits.tap(
        model,
        tensor,
        lambda before, after: [
            helper.make_node("Shape", [before], ["when/size"], "when/size", start=axis, end=axis + 1),
            helper.make_node(op_type, ["when/size", limit], ["when/so"], "when/so"),
            helper.make_node("Mul", [before, factor], ["when/larger"], "when/larger"),
            helper.make_node("Where", ["when/so", "when/larger", before], [after], "when"),
        ],
    )


SMALL_FAULTS = planted_in(__name__)
