"""A float32 graph becomes a typed 16-bit graph: precision lives in the file that is checked and compiled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import TensorProto

from linglos_deploy.artifacts import OnnxArtifact, Step, load_onnx, onnx_signature, tool_versions
from linglos_deploy.choices import Precision
from linglos_deploy.errors import ExportError, UsageError
from linglos_deploy.exporters.islands import float32_islands
from linglos_deploy.exporters.retype import retype
from linglos_deploy.files import atomic_file, sha256_bytes
from linglos_deploy.graph.metadata import PREFIX
from linglos_deploy.progress import SILENT, Progress

ELEMENTS = {Precision.FP16: TensorProto.FLOAT16, Precision.BF16: TensorProto.BFLOAT16}
LARGEST_FLOAT16 = 65504.0
HEADROOM = 4.0
BFLOAT16_OPSET = 22
"""The first opset whose Conv takes bfloat16."""


def convert_precision(
    model: OnnxArtifact,
    precision: Precision,
    *,
    out: Path,
    float32_io: bool = True,
    ranges: Mapping[str, float] | None = None,
    progress: Progress = SILENT,
) -> OnnxArtifact:
    """Write the 16-bit form of a graph; a Q/DQ graph gets 16-bit scales and floating-point parts.

    Args:
        model: A float32 graph, or an INT8 Q/DQ graph with float32 parts.
        precision: ``FP16``, ``BF16``, or ``INT8_FP16`` for a Q/DQ graph.
        out: Where the file goes; written whole or not at all.
        float32_io: Whether inputs and outputs stay float32.
        ranges: Largest magnitude of tensors, as seen in calibration; those within a factor of 4 of float16's largest
            number are warned of, by name.
        progress: Receives the warnings.

    Raises:
        UsageError: The precision is not a 16-bit one.
        ExportError: A weight does not fit, or the result is not valid ONNX.
    """
    element = ELEMENTS.get(precision.floating)
    if element is None:
        raise UsageError(f"'{precision}' is not a 16-bit precision.", expected="fp16, bf16 or int8+fp16")
    with progress.stage(f"Converting to {precision}"):
        graph = load_onnx(model.path)
        islands = float32_islands(graph)
        typed = retype(graph, element, float32=islands, float32_io=float32_io)
        if element == TensorProto.BFLOAT16:
            _require_opset(typed, BFLOAT16_OPSET)
        onnx.helper.set_model_props(
            typed, {**{entry.key: entry.value for entry in typed.metadata_props}, f"{PREFIX}precision": str(precision)}
        )
        typed = _checked(typed)
        warnings = narrow_escapes(typed, ranges or {}) if element == TensorProto.FLOAT16 else ()
        for warning in warnings:
            progress.warn(warning)
        data = typed.SerializeToString(deterministic=True)
        with atomic_file(out) as partial:
            partial.write_bytes(data)
    step = Step(
        stage="precision",
        inputs={"graph": model.digest},
        config={"precision": str(precision), "float32_io": float32_io, "float32_nodes": len(islands)},
        tools=tool_versions("linglos-deploy", "onnx"),
    )
    return OnnxArtifact(
        path=out, signature=onnx_signature(typed), digest=sha256_bytes(data), lineage=(*model.lineage, step)
    )


def narrow_escapes(model: onnx.ModelProto, ranges: Mapping[str, float]) -> tuple[str, ...]:
    """Return a warning for each float16 tensor whose range comes within a factor of 4 of 65504, largest first."""
    halves = {value.name for value in model.graph.value_info if value.type.tensor_type.elem_type == TensorProto.FLOAT16}
    close = [(bound, name) for name, bound in ranges.items() if name in halves and bound * HEADROOM >= LARGEST_FLOAT16]
    return tuple(
        f"Tensor '{name}' reaches {bound:.4g}; float16 ends at {LARGEST_FLOAT16:.0f}. Use bf16, or check its inputs."
        for bound, name in sorted(close, reverse=True)
    )


def _require_opset(model: onnx.ModelProto, least: int) -> None:
    for entry in model.opset_import:
        if entry.domain in {"", "ai.onnx"}:
            entry.version = max(entry.version, least)
    model.ir_version = max(model.ir_version, 10)


def _checked(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError("The 16-bit graph is not valid ONNX.", found=str(error).strip().splitlines()[0]) from error
    return model
