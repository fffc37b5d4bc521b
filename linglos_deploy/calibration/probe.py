"""Makes a graph show its activations.

before: image -> a -> b -> logits
after:  image -> a, b           (the wanted tensors are the outputs; what only the old outputs needed is gone)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from linglos_deploy.artifacts import OnnxArtifact, onnx_signature
from linglos_deploy.errors import CalibrationError
from linglos_deploy.files import sha256_file
from linglos_deploy.graph.topology import remove_dead, replace_field, value_shapes, value_types

FLOAT_BYTES = 4


def activation_probe(
    model: onnx.ModelProto, tensors: Sequence[str], *, out: Path, image_size: tuple[int, int] | None = None
) -> OnnxArtifact:
    """Write a copy of a graph whose outputs are the wanted tensors; graph inputs among them are left out.

    Args:
        model: The graph; it is not changed.
        tensors: Names of float32 tensors.
        out: Where to write the copy.
        image_size: Height and width of the images, so that the shapes of all activations are known.

    Raises:
        CalibrationError: A tensor is not in the graph, or not float32.
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
        remove_dead(graph)
    onnx.save(probe, out)
    return OnnxArtifact(path=out, signature=onnx_signature(probe), digest=sha256_file(out))


def activation_bytes(probe: OnnxArtifact) -> int:
    """Return the bytes of all outputs for one image; a free size counts as 1."""
    sizes = (
        math.prod(dim if isinstance(dim, int) else 1 for dim in (spec.shape or ())[1:])
        for spec in probe.signature.outputs
    )
    return FLOAT_BYTES * sum(sizes)


def _fix_image_size(graph: onnx.GraphProto, image_size: tuple[int, int]) -> None:
    changed = False
    for value in graph.input:
        tensor = value.type.tensor_type
        first = 1 if tensor.elem_type == TensorProto.UINT8 else 2
        for dim, size in zip(tensor.shape.dim[first : first + 2], image_size, strict=False):
            if not dim.HasField("dim_value"):
                dim.dim_value = size
                changed = True
    if changed:  # shapes that were inferred for any size would stand in the way
        del graph.value_info[:]
