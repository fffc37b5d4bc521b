"""What is known about a candidate's model before any backend opens it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from linglos_deploy.artifacts import EngineArtifact, OnnxArtifact, load_onnx, onnx_signature
from linglos_deploy.engines.record import open_engine, read_record
from linglos_deploy.engines.served import served_signature
from linglos_deploy.files import sha256_file

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Described:
    """A model file and its precision.

    Attributes:
        artifact: The model.
        precision: ``fp32``, ``fp16``, ``bf16``, ``int8``, ``int8+fp16`` or ``int8+bf16``; empty if unknown.
    """

    artifact: OnnxArtifact | EngineArtifact
    precision: str


def describe(path: Path) -> Described:
    """Read an ONNX graph, or the sidecar of an engine.

    Raises:
        ArtifactError: The file or its sidecar is missing or damaged.
    """
    path = path.absolute()
    if path.suffix != ".onnx":
        artifact = open_engine(path)
        served = served_signature(artifact.signature, read_record(path).spec.profiles)
        return Described(replace(artifact, signature=served), "")
    model = load_onnx(path)
    return Described(OnnxArtifact(path, onnx_signature(model), sha256_file(path)), graph_precision(model))


def graph_precision(model: onnx.ModelProto) -> str:
    """Return the precision in which a graph does its work: of its Q/DQ pairs, and of its weights."""
    import onnx

    floats = {
        onnx.TensorProto.FLOAT: "fp32",
        onnx.TensorProto.FLOAT16: "fp16",
        onnx.TensorProto.BFLOAT16: "bf16",
    }
    sizes = dict.fromkeys(floats.values(), 0)
    for tensor in model.graph.initializer:
        if tensor.data_type in floats:
            elements = 1
            for size in tensor.dims:
                elements *= size
            sizes[floats[tensor.data_type]] += elements
    widest = max(sizes, key=lambda name: sizes[name])
    if not any(node.op_type == "DequantizeLinear" for node in model.graph.node):
        return widest
    return "int8" if widest == "fp32" else f"int8+{widest}"
