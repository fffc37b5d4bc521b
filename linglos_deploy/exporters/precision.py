"""A float32 graph becomes a typed 16-bit graph: precision lives in the file that is checked and compiled."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import onnx
import onnx_ir as ir

from linglos_deploy.artifacts import OnnxArtifact, Step, load_onnx, onnx_signature, tool_versions
from linglos_deploy.choices import Precision
from linglos_deploy.errors import ExportError, UsageError
from linglos_deploy.exporters.islands import PRODUCTS, float32_islands, is_float32, out_of_range
from linglos_deploy.exporters.narrowing import LARGEST, SMALLEST_NORMAL
from linglos_deploy.exporters.retype import PlainConstants, RetypeFloats
from linglos_deploy.files import atomic_file, sha256_bytes
from linglos_deploy.graph.metadata import PREFIX
from linglos_deploy.graph.operators import operator
from linglos_deploy.graph.opset import opset_of, to_opset
from linglos_deploy.graph.passes.running import run_passes
from linglos_deploy.progress import SILENT, Progress

KINDS = {Precision.FP16: ir.DataType.FLOAT16, Precision.BF16: ir.DataType.BFLOAT16}
MOST_WARNINGS = 5
_GROWING = frozenset({"Add", "Sub", "Sum", "Mul", "Div"})
BFLOAT16_OPSET = 22
"""The first opset whose Conv takes bfloat16."""
FLOAT16_SCALES_OPSET = 19
"""The first opset whose QuantizeLinear and DequantizeLinear take float16."""


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
        ranges: Largest magnitude of tensors, as seen in calibration. Those that come within a factor of 4 of the
            largest 16-bit number, or lie below the smallest normal one, stay in float32 and are warned of, by name.
        progress: Receives the warnings.

    Raises:
        UsageError: The precision is not a 16-bit one.
        ExportError: A weight does not fit, or the result is not valid ONNX.
    """
    kind = KINDS.get(precision.floating)
    if kind is None:
        raise UsageError(f"'{precision}' is not a 16-bit precision.", expected="fp16, bf16 or int8+fp16")
    with progress.stage(f"Converting to {precision}"):
        graph = load_onnx(model.path)
        for warning in range_warnings(graph, kind, ranges or {}):
            progress.warn(warning)
        typed, islands = to_sixteen_bits(graph, kind, ranges=ranges, float32_io=float32_io)
        onnx.helper.set_model_props(
            typed, {**{entry.key: entry.value for entry in typed.metadata_props}, f"{PREFIX}precision": str(precision)}
        )
        data = typed.SerializeToString(deterministic=True)
        with atomic_file(out) as file:
            file.write_bytes(data)
    step = Step(
        stage="precision",
        inputs={"graph": model.digest},
        config={"precision": str(precision), "float32_io": float32_io, "float32_nodes": len(islands)},
        tools=tool_versions("linglos-deploy", "onnx", "onnx-ir"),
    )
    return OnnxArtifact(
        path=out, signature=onnx_signature(typed), digest=sha256_bytes(data), lineage=(*model.lineage, step)
    )


def to_sixteen_bits(
    model: onnx.ModelProto,
    kind: ir.DataType,
    *,
    ranges: Mapping[str, float] | None = None,
    float32_io: bool = True,
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Return the typed form of a float32 graph, and the nodes that stay in float32, each with the reason.

    Raises:
        ExportError: A weight does not fit, a tensor's type is not known, or the result is not valid ONNX.
    """
    prepared = run_passes(_in_opset(model, kind), PlainConstants())
    retype = RetypeFloats(kind, islands=partial(float32_islands, ranges=ranges), float32_io=float32_io)
    typed = run_passes(_inferred(prepared), retype)
    return _checked(typed), retype.kept


def tensors_at_risk(model: onnx.ModelProto, kind: ir.DataType) -> tuple[str, ...]:
    """Return the tensors whose range a calibration should show before they are stored in 16 bits.

    These are what sums, products and layers give, also inside norms, unless they stay in float32 anyway. Everything
    else repeats or bounds them. None for bfloat16, which reaches as far as float32.
    """
    if kind == ir.DataType.BFLOAT16:
        return ()
    graph = ir.from_proto(_inferred(model))
    islands = float32_islands(graph, kind)
    return tuple(
        str(output.name)
        for node in graph.graph
        if operator(node).work in PRODUCTS or node.op_type in _GROWING
        for output in node.outputs[:1]
        if is_float32(output) and not all(each in islands for each in (node, *output.consumers()))
    )


def range_warnings(model: onnx.ModelProto, kind: ir.DataType, ranges: Mapping[str, float]) -> tuple[str, ...]:
    """Return a warning for each float32 tensor that 16 bits cannot hold, largest first; one for the rest of many."""
    graph = _inferred(model).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    floats = {value.name for value in values if value.type.tensor_type.elem_type == ir.DataType.FLOAT}
    close = [(bound, name) for name, bound in ranges.items() if name in floats and out_of_range(bound, kind)]
    warnings = [
        f"Tensor '{name}' reaches {bound:.4g}; {kind.name.lower()} counts from {SMALLEST_NORMAL[kind]:.2g} to "
        f"{LARGEST[kind]:.5g}. What makes and reads it stays in float32."
        for bound, name in sorted(close, reverse=True)
    ]
    rest = len(warnings) - MOST_WARNINGS
    more = f"{rest} more tensors are too large or too small for {kind.name.lower()} and stay in float32."
    return (*warnings[:MOST_WARNINGS], *([more] if rest > 0 else []))


def _in_opset(model: onnx.ModelProto, kind: ir.DataType) -> onnx.ModelProto:
    """Return the graph in an opset whose operators take ``kind``."""
    quantized = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    least = BFLOAT16_OPSET if kind == ir.DataType.BFLOAT16 else FLOAT16_SCALES_OPSET if quantized else 0
    return to_opset(model, least) if opset_of(model) < least else model


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def _checked(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError("The 16-bit graph is not valid ONNX.", found=str(error).strip().splitlines()[0]) from error
    return model
