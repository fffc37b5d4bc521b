"""Which tensors a quantization plan could need: what layers read as data, and what convolutions leave behind."""

from __future__ import annotations

import onnx

from linglos_deploy.graph.layers import find_layers
from linglos_deploy.graph.passes.running import read_ir
from linglos_deploy.graph.results import result_of
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


def convolution_results(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the float32 tensors behind convolutions with a constant weight, a ``Relu`` or ``Clip`` included.

    ONNX Runtime computes a convolution in integers only where it stores the result as integers. Those that the graph
    itself returns are left out, and so is what stands in bodies of If, Loop and Scan.
    """
    types = value_types(model)
    layers = (layer for layer in find_layers(read_ir(model).graph) if layer.constant and layer.inside is None)
    results = (result_of(layer.node) for layer in layers if layer.node.op_type == "Conv")
    names = dict.fromkeys(str(result.name) for result in results if result is not None)
    return tuple(name for name in names if types.get(name) == onnx.TensorProto.FLOAT)


def rounded_tensors(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return every tensor whose range some runtime's INT8 could need."""
    return tuple(dict.fromkeys((*quantizable_activations(model), *convolution_results(model))))
