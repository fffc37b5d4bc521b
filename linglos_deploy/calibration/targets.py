"""Which tensors a quantization plan could need: what convolutions and linear layers read as data."""

from __future__ import annotations

import onnx

from linglos_deploy.graph.layers import find_layers
from linglos_deploy.graph.passes.running import read_ir
from linglos_deploy.graph.topology import value_types


def quantizable_activations(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the float32 data inputs of the layers that have a constant weight.

    Each tensor is named once, in the order of its first reader. A graph input is among them where a layer reads it.
    Layers in bodies of If, Loop and Scan are left out: they stay in floating point.
    """
    types = value_types(model)
    layers = (layer for layer in find_layers(read_ir(model).graph) if layer.constant and layer.inside is None)
    names = dict.fromkeys(str(layer.data.name) for layer in layers)
    return tuple(name for name in names if types.get(name) == onnx.TensorProto.FLOAT)
