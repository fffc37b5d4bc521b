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
import onnx_ir as ir

NARROW = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
"""The element types whose rounding is written out."""

_MOVES = frozenset(
    {
        "Transpose",
        "Reshape",
        "Unsqueeze",
        "Squeeze",
        "Flatten",
        "Identity",
        "Slice",
        "Split",
        "Gather",
        "Expand",
        "Tile",
    }
)
"""What comes out of these is among what goes in, so it is rounded already."""
_BODIES = frozenset({"If", "Loop", "Scan"})
_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "precision", "stash_type", "softmax_precision")


def with_explicit_rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float32 graph that rounds where ``model``, a typed 16-bit graph, stores 16 bits.

    Quantized parts stay quantized; what a DequantizeLinear gives in 16 bits is rounded to 16 bits.
    """
    typed = ir.from_proto(onnx.shape_inference.infer_shapes(model))
    WriteOutRounding()(typed)
    return ir.to_proto(typed)


class WriteOutRounding(ir.passes.InPlacePass):
    """Compute in float32 and round every 16-bit tensor when it is written, in bodies of If, Loop and Scan, too.

    before: a -> Mul -> b (float16)
    after:  a -> Mul -> Cast(float16) -> Cast(float32) -> b
    requires: every tensor has an element type.
    ensures: no tensor is of 16 bits but between two Casts.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Edit the model in place."""
        modified = False
        for graph in model.graphs():
            for value in (*graph.inputs, *graph.initializers.values()):
                modified |= _widen(value)
            for node in list(graph):
                modified |= _round_node(graph, node)
        return ir.passes.PassResult(model, modified)


def _widen(value: ir.Value) -> bool:
    if value.dtype not in NARROW:
        return False
    if value.const_value is not None:
        value.const_value = _wide(value.const_value)
    value.dtype = ir.DataType.FLOAT
    return True


def _wide(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.Tensor(np.asarray(tensor.numpy()).astype(np.float32), name=tensor.name)


def _round_node(graph: ir.Graph, node: ir.Node) -> bool:
    narrow = [(output, output.dtype) for output in node.outputs if output.dtype in NARROW]
    is_cast = node.op_type == "Cast"
    if not is_cast:
        _widen_attributes(node)
    elif not narrow:
        return False
    for output, kind in narrow:
        if node.op_type in _MOVES or node.op_type in _BODIES:
            output.dtype = ir.DataType.FLOAT
        else:
            _round_output(graph, node, output, kind, rounded=is_cast)
    return bool(narrow)


def _widen_attributes(node: ir.Node) -> None:
    for attribute in list(node.attributes.values()):
        if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype in NARROW:
            node.attributes[attribute.name] = ir.AttrTensor(attribute.name, _wide(attribute.as_tensor()))
        elif attribute.name in _TYPE_ATTRIBUTES and attribute.value in NARROW:
            node.attributes[attribute.name] = ir.AttrInt64(attribute.name, int(ir.DataType.FLOAT))


def _round_output(graph: ir.Graph, node: ir.Node, output: ir.Value, kind: ir.DataType, *, rounded: bool) -> None:
    """Let everybody read the rounded value, under the name of the value as the node made it."""
    name = output.name
    output.name = f"{name}/narrow" if rounded else f"{name}/wide"
    casts = [] if rounded else [_cast(output, kind, f"{name}/narrow")]
    back = _cast(casts[0].outputs[0] if casts else output, ir.DataType.FLOAT, f"{name}/rounded")
    output.replace_all_uses_with(back.outputs[0], replace_graph_outputs=True)
    (casts[0] if casts else back).replace_input_with(0, output)
    back.outputs[0].name = name
    output.dtype = kind if rounded else ir.DataType.FLOAT
    graph.insert_after(node, [*casts, back])


def _cast(value: ir.Value, kind: ir.DataType, name: str) -> ir.Node:
    node = ir.node("Cast", [value], attributes={"to": int(kind)}, name=f"{name}/Cast")
    cast = node.outputs[0]
    cast.name, cast.shape, cast.dtype = name, value.shape, kind
    return node
