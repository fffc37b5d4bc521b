"""What a 16-bit graph computes where no runtime here computes in 16 bits.

ONNX Runtime's CPU provider runs a float16 graph in float32 from border to border and rounds hardly anything, so it
cannot show what a GPU will lose. This makes the rounding explicit: products accumulate in float32, as tensor cores do,
and every tensor that the typed graph holds in 16 bits is rounded to 16 bits when it is written.

before: a -> Mul -> b                              b is float16
after:  a -> Mul -> Cast(float16) -> Cast(float32) -> b
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.exporters.islands import LAYOUT
from linglos_deploy.graph.topology import replace_field, value_types

NARROW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def with_explicit_rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float32 graph that rounds where ``model``, a typed 16-bit graph without Q/DQ, stores 16 bits."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    types = value_types(result)
    graph = result.graph
    del graph.value_info[:]
    for tensor in graph.initializer:
        if tensor.data_type in NARROW:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.extend(_rounded(node, types))
    replace_field(graph.node, nodes)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in NARROW:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return result


def _rounded(node: onnx.NodeProto, types: dict[str, int]) -> list[onnx.NodeProto]:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    kind = types.get(node.output[0])
    if node.op_type == "Cast" and kind == TensorProto.FLOAT and types.get(node.input[0]) in NARROW:
        return [helper.make_node("Identity", node.input, node.output, name=node.name)]
    if kind not in NARROW or node.op_type in LAYOUT:
        return [copy]
    name = node.output[0]
    if node.op_type == "Cast":
        narrow = name + "/narrow"
        copy.output[0] = narrow
        return [copy, helper.make_node("Cast", [narrow], [name], name=narrow, to=TensorProto.FLOAT)]
    wide, narrow = name + "/wide", name + "/narrow"
    copy.output[0] = wide
    return [
        copy,
        helper.make_node("Cast", [wide], [narrow], name=wide, to=kind),
        helper.make_node("Cast", [narrow], [name], name=narrow, to=TensorProto.FLOAT),
    ]
