"""Axes whose name says nothing.

before: x (?, 3, ?, ?), where three axes of any size share a name by accident
after:  x ( , 3,  ,  ), three axes without names

A runtime that takes equal names for equal sizes (TensorRT does) would run the first only on images that are as high and
as wide as the batch is large.
"""

from __future__ import annotations

import onnx

from linglos_deploy.signature import dim_named, is_unnamed


def clear_empty_names(model: onnx.ModelProto) -> bool:
    """Take away the names of axes that say nothing, such as ``?``, in place; return whether there were any."""
    changed = False
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_param and is_unnamed(dim_named(dim.dim_param, value.name, axis)):
                dim.ClearField("dim_param")
                changed = True
    return changed
