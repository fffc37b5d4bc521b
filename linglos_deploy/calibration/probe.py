"""Makes a graph show its activations.

before: image -> a -> b -> logits
after:  image -> a, b           (the wanted tensors are the outputs; what only the old outputs needed is gone)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto, helper
from onnx_ir.passes.common import RemoveUnusedNodesPass

from linglos_deploy.artifacts import OnnxArtifact, onnx_signature
from linglos_deploy.errors import CalibrationError
from linglos_deploy.files import sha256_file
from linglos_deploy.graph.axes import InputAxes, input_axes
from linglos_deploy.graph.passes.running import run_passes
from linglos_deploy.graph.topology import replace_field, value_shapes, value_types

FLOAT_BYTES = 4
_MOST_CHANNELS = 4


@dataclass(frozen=True, slots=True)
class ActivationProbe:
    """A graph that shows its activations.

    Attributes:
        graph: Its outputs are the wanted tensors, apart from graph inputs among them.
        inputs: Where images lie in its inputs.
        bytes_per_image: Bytes of all outputs for one image; ``None`` where a size shows only when the graph runs.
    """

    graph: OnnxArtifact
    inputs: InputAxes
    bytes_per_image: int | None


def activation_probe(
    model: onnx.ModelProto, tensors: Sequence[str], *, out: Path, image_size: tuple[int, int] | None = None
) -> ActivationProbe:
    """Write a copy of a graph whose outputs are the wanted tensors; graph inputs among them are left out.

    Args:
        model: The graph; it is not changed.
        tensors: Names of float32 tensors.
        out: Where to write the copy.
        image_size: Height and width of the images, so that the shapes of all activations are known.

    Raises:
        CalibrationError: A tensor is not in the graph, or not float32.
        DataError: The graph has no input that could hold images.
    """
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    graph = probe.graph
    if image_size is not None:
        _fix_image_size(graph, image_size)
    types, shapes = value_types(probe), value_shapes(probe)
    made = {name for node in graph.node for name in node.output}
    inputs = {value.name for value in graph.input}
    for name in tensors:
        if name not in made | inputs:
            raise CalibrationError(f"There is no tensor '{name}' in the graph.", found=f"{len(made)} other tensors")
        if types.get(name) != TensorProto.FLOAT:
            found = TensorProto.DataType.Name(types[name]) if name in types else "unknown"
            raise CalibrationError(f"Tensor '{name}' is not float32.", found=found, expected="a float32 graph")
    shown = [name for name in tensors if name not in inputs]
    if shown:  # a graph needs an output
        replace_field(
            graph.output,
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes.get(name)) for name in shown],
        )
        probe = run_passes(probe, RemoveUnusedNodesPass())
    onnx.save(probe, out)
    signature = onnx_signature(probe)
    axes = input_axes(signature)
    artifact = OnnxArtifact(path=out, signature=signature, digest=sha256_file(out))
    return ActivationProbe(artifact, axes, _bytes_per_image(probe, axes))


def _bytes_per_image(probe: onnx.ModelProto, inputs: InputAxes) -> int | None:
    """Infer all sizes once more, for a batch of one if the graph takes any; ``probe`` is used up."""
    graph = probe.graph
    names = [value.name for value in graph.output]
    for value in graph.input:
        axis = inputs.axes.get(value.name)
        if axis is not None and inputs.batch is None:
            value.type.tensor_type.shape.dim[axis].dim_value = 1
    del graph.value_info[:]  # both hold sizes for any batch, which inference would keep
    replace_field(graph.output, [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names])
    shapes = value_shapes(probe)
    values = 0
    for name in names:
        sizes = [dim for dim in shapes.get(name, (None,)) if isinstance(dim, int)]
        if len(sizes) != len(shapes.get(name, (None,))):
            return None
        values += math.prod(sizes)
    return FLOAT_BYTES * values // (inputs.batch or 1)


def _fix_image_size(graph: onnx.GraphProto, image_size: tuple[int, int]) -> None:
    changed = False
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        if len(dims) != 4:
            continue
        first = 1 if 0 < dims[3].dim_value <= _MOST_CHANNELS and dims[1].dim_value <= 0 else 2
        for dim, size in zip(dims[first : first + 2], image_size, strict=True):
            if dim.dim_value <= 0:
                dim.dim_value = size
                changed = True
    if changed:  # shapes that were inferred for any size would stand in the way
        del graph.value_info[:]
