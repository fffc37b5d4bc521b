"""What the stages hand to each other: a model in memory, an ONNX graph, an engine; and how each came to be."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linglos_deploy.choices import Weights
from linglos_deploy.errors import ArtifactError
from linglos_deploy.files import sha256_file
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.signature import Decoding, Dim, ModelSignature, TensorSpec, dim_named

if TYPE_CHECKING:
    import onnx
    import torch


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of an artifact's story.

    Attributes:
        stage: ``"load"``, ``"export"``, ``"calibrate"``, ``"quantize"``, ``"precision"`` or ``"build"``.
        inputs: Digest of each input, by role.
        config: The stage's resolved configuration, as JSON values.
        tools: Version of each distribution that could change the result.
    """

    stage: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)


Lineage = tuple[Step, ...]


BATCH_AXIS = "batch"
"""Name of the axis along which samples lie; equal in all inputs of a model."""

IMAGE_INPUT = TensorSpec("image", "float32", (BATCH_AXIS, 3, "height", "width"))
"""What an image model takes."""


@dataclass(frozen=True, slots=True)
class TorchModel:
    """A PyTorch model, ready for export.

    Attributes:
        module: In evaluation mode, on the CPU, float32; returns tensors in any nesting of tuples, lists, dicts and
            dataclasses that PyTorch knows, one per name in ``output_names``.
        name: Short name used for files, such as ``"linglo_s"``.
        output_names: ``("logits",)`` or ``("features_4", "features_8", ...)``.
        preprocess: How images become ``image``; ``None`` if the model takes something else.
        labels: Class names, empty if unknown.
        size_divisor: Height and width must be multiples of this.
        digest: SHA-256 of the weights.
        weights: Whether they are trained, as far as anybody said.
        lineage: How it was loaded.
        inputs: What the module takes: by keyword where ``forward`` has parameters of these names, else by position.
        sizes: Nominal size of each named axis but the batch; an image model's come from ``preprocess``.
        warnings: What its user should know.
        decoding: What its outputs mean; ``None`` for a model that takes no image.
    """

    module: torch.nn.Module
    name: str
    output_names: tuple[str, ...]
    preprocess: PreprocessSpec | None
    labels: tuple[str, ...]
    size_divisor: int
    digest: str
    weights: Weights
    lineage: Lineage
    inputs: tuple[TensorSpec, ...] = (IMAGE_INPUT,)
    sizes: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    decoding: Decoding | None = None

    def __post_init__(self) -> None:
        if self.preprocess is not None:
            height, width = self.preprocess.input_size
            object.__setattr__(self, "sizes", {**self.sizes, "height": height, "width": width})

    def input_shapes(self, *, batch: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of each input at the nominal sizes."""
        sizes = {**self.sizes, BATCH_AXIS: batch}
        return {
            spec.name: tuple(dim if isinstance(dim, int) else sizes[dim] for dim in spec.dims) for spec in self.inputs
        }


@dataclass(frozen=True, slots=True)
class OnnxArtifact:
    """An ONNX file together with what is known about it.

    Attributes:
        path: The file.
        signature: Its inputs and outputs.
        digest: SHA-256 of the file.
        lineage: How it came to be.
        warnings: What its user should know, such as an axis that became fixed on the way.
    """

    path: Path
    signature: ModelSignature
    digest: str
    lineage: Lineage = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineArtifact:
    """A compiled engine: the vendor's plan, unmodified, with a ``.json`` sidecar of the same stem.

    Attributes:
        path: The plan.
        signature: Its inputs and outputs.
        digest: SHA-256 of the plan.
        backend: Name of the backend that built it and can run it.
        requirements: What a machine needs to load it, such as ``{"version": "1.7.1", "compute_capability": "8.9"}``.
        lineage: How it came to be.
    """

    path: Path
    signature: ModelSignature
    digest: str
    backend: str
    requirements: Mapping[str, str]
    lineage: Lineage = ()


Artifact = TorchModel | OnnxArtifact | EngineArtifact


def open_onnx(path: Path, *, lineage: Lineage = ()) -> OnnxArtifact:
    """Read an ONNX file's signature and digest.

    Raises:
        ArtifactError: The file is missing, truncated or not an ONNX model.
    """
    return OnnxArtifact(
        path=path,
        signature=onnx_signature(load_onnx(path)),
        digest=sha256_file(path),
        lineage=lineage,
    )


def load_onnx(path: Path) -> onnx.ModelProto:
    """Parse an ONNX file.

    Raises:
        ArtifactError: The file is missing, truncated or not an ONNX model.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise ArtifactError(
            f"There is no ONNX file at '{path}'.",
            found="a directory" if path.is_dir() else "nothing",
            expected="a .onnx file",
            next_step="run 'linglos-deploy export' to make one",
        )
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, OSError) as error:
        reason = str(error).strip() or repr(error)
        raise ArtifactError(
            f"'{path}' is not a usable ONNX model.",
            found=f"{path.stat().st_size} bytes; {reason.splitlines()[0]}",
            expected="a complete ONNX protobuf",
            next_step="copy the file again, or run 'linglos-deploy export' to make a new one",
        ) from error
    return model


def onnx_signature(model: onnx.ModelProto) -> ModelSignature:
    """Return the inputs (without initializers) and outputs of an ONNX graph."""
    initializers = {tensor.name for tensor in model.graph.initializer}
    return ModelSignature(
        inputs=tuple(_tensor_spec(value) for value in model.graph.input if value.name not in initializers),
        outputs=tuple(_tensor_spec(value) for value in model.graph.output),
    )


def tool_versions(*distributions: str) -> dict[str, str]:
    """Return the installed version of each distribution; one that is not installed is left out."""
    versions = {}
    for name in distributions:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    import onnx

    if not value.type.HasField("tensor_type"):
        raise ArtifactError(
            f"'{value.name}' is no tensor.",
            found=value.type.WhichOneof("value") or "no type",
            expected="inputs and outputs that are tensors",
            next_step="leave the operator that makes it out of the graph (for scikit-learn: zipmap=False)",
        )
    tensor = value.type.tensor_type
    shape = tuple(_dim(value.name, axis, dim) for axis, dim in enumerate(tensor.shape.dim))
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return TensorSpec(name=value.name, dtype=dtype, shape=shape if tensor.HasField("shape") else None)


def _dim(tensor: str, axis: int, dim: onnx.TensorShapeProto.Dimension) -> Dim:
    if dim.HasField("dim_value") and dim.dim_value >= 0:  # some exporters write -1 for "any"
        return int(dim.dim_value)
    return dim_named(dim.dim_param, tensor, axis)
