"""The graph takes pixels and normalizes them itself, in the same float32 operations as ``preprocessing.normalize``.

before: image float32 N x 3 x H x W -> model
after:  image uint8 N x H x W x 3 -> Cast -> Transpose -> Sub(255 mean) -> Div(255 std) -> model

The pixels come in the model's colours (``PreprocessSpec.color``); channels are always last. A model that has them last
itself needs no Transpose.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.graph.topology import replace_field, shape_of
from linglos_deploy.images.layout import Layout
from linglos_deploy.images.preprocessing import PreprocessSpec


def embed_preprocessing(model: onnx.ModelProto, spec: PreprocessSpec) -> None:
    """Put cast, layout and normalization in front of the graph's only input, in place."""
    graph = model.graph
    (value,) = graph.input
    image = value.name
    planes, last = "preprocess/Div", spec.layout is Layout.NHWC
    for node in graph.node:
        node.input[:] = [planes if name == image else name for name in node.input]
    constants = [
        numpy_helper.from_array(array if last else array.reshape(1, -1, 1, 1), f"preprocess.{name}")
        for name, array in zip(("offset", "scale"), spec.offset_and_scale(), strict=True)
    ]
    steps = [
        helper.make_node("Cast", [image], ["preprocess/Cast"], name="preprocess/Cast", to=TensorProto.FLOAT),
        *([] if last else [_planes_first("preprocess/Cast", "preprocess/Transpose")]),
        helper.make_node(
            "Sub",
            ["preprocess/Cast" if last else "preprocess/Transpose", "preprocess.offset"],
            ["preprocess/Sub"],
            name="preprocess/Sub",
        ),
        helper.make_node("Div", ["preprocess/Sub", "preprocess.scale"], [planes], name=planes),
    ]
    replace_field(graph.node, [*steps, *graph.node])
    graph.initializer.extend(constants)
    batch, *sizes = shape_of(value)
    channels, height, width = (sizes[-1], *sizes[:2]) if last else sizes
    value.CopyFrom(helper.make_tensor_value_info(image, TensorProto.UINT8, [batch, height, width, channels]))


def _planes_first(tensor: str, transposed: str) -> onnx.NodeProto:
    return helper.make_node("Transpose", [tensor], [transposed], name=transposed, perm=[0, 3, 1, 2])
