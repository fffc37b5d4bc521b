"""A PyTorch model becomes a float32 ONNX file: captured, simplified, named, checked, the same bytes every time."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass

from linglos_deploy import __version__
from linglos_deploy.artifacts import OnnxArtifact, Step, TorchModel, onnx_signature, tool_versions
from linglos_deploy.backends.registry import runtime
from linglos_deploy.choices import Precision
from linglos_deploy.codec import to_builtins
from linglos_deploy.errors import ExportError, UsageError
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.decompositions.measured import RuntimeTimer
from linglos_deploy.exporters.decompositions.records import METADATA_KEY, AttentionRecord
from linglos_deploy.exporters.decompositions.registry import MEASURED
from linglos_deploy.exporters.decompositions.rewrite import Request, rewrite_attention
from linglos_deploy.exporters.equalization import EqualizeChannels, Equalized
from linglos_deploy.exporters.folding import FoldBatchNorms
from linglos_deploy.exporters.naming import read_scopes, rename
from linglos_deploy.exporters.pixels import embed_preprocessing
from linglos_deploy.exporters.simplify import simplify
from linglos_deploy.exporters.tracing import Trace, trace
from linglos_deploy.files import atomic_file, sha256_bytes
from linglos_deploy.graph.passes.reshape_targets import FixReshapeTargets
from linglos_deploy.graph.passes.running import run_passes
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.signature import Dim

__all__ = ["ExportConfig", "export_onnx"]

TOOLS = ("linglos-deploy", "torch", "onnx", "onnxscript", "onnx-ir", "onnxsim")
METADATA_PREFIX = "linglos."


def export_onnx(model: TorchModel, config: ExportConfig, *, out: Path, progress: Progress = SILENT) -> OnnxArtifact:
    """Export ``model`` to a checked, simplified float32 graph in standard operators.

    Args:
        model: The model; it is left as it is.
        config: Opset, dynamic axes, preprocessing, decomposition.
        out: Where the ONNX file goes; written whole or not at all.
        progress: Told about each step.

    Returns:
        The file, with its signature and lineage. Input ``image``: float32 N x 3 x H x W, or uint8 N x H x W x 3 with
        embedded preprocessing.

    Raises:
        ExportError: The module cannot be captured, translated or checked.
        OutputError: The file cannot be written.
    """
    with progress.stage("Exporting to ONNX", 4) as advance:
        module = copy.deepcopy(model.module).eval()
        attention = rewrite_attention(module, _nominal_inputs(model), _request(config))
        traced = trace(model, module, config)
        for warning in traced.warnings:
            progress.warn(warning)
        advance()
        scopes = read_scopes(traced.model)
        simplified = simplify(run_passes(traced.model, FixReshapeTargets()), model)
        for warning in simplified.warnings:
            progress.warn(warning)
        graph = _readable(traced, simplified.graph, scopes)
        advance()
        if config.embed_preprocessing:
            embed_preprocessing(graph, _preprocessing(model))
        graph, equalized = _equalized(graph, config)
        graph = _finish(graph, _metadata(model, config, attention))
        advance()
        data = graph.SerializeToString(deterministic=True)
        with atomic_file(out) as partial:
            partial.write_bytes(data)
        advance()
    digest = sha256_bytes(data)
    step = Step(
        stage="export",
        inputs={"weights": model.digest},
        config={
            **to_builtins(config),
            "attention": to_builtins(attention),
            "equalized": to_builtins(equalized),
        },
        tools=tool_versions(*TOOLS),
    )
    return OnnxArtifact(
        path=out,
        signature=onnx_signature(graph),
        digest=digest,
        lineage=(*model.lineage, step),
        warnings=(*traced.warnings, *simplified.warnings),
    )


def _nominal_inputs(model: TorchModel) -> dict[str, torch.Tensor]:
    """Return one sample: seeded normal numbers for floats, zeros and ones for integers."""
    generator = torch.Generator().manual_seed(0)
    shapes = model.input_shapes(batch=1)
    samples = {}
    for spec in model.inputs:
        dtype = getattr(torch, spec.dtype)
        if dtype.is_floating_point:
            samples[spec.name] = torch.randn(shapes[spec.name], generator=generator, dtype=dtype)
        else:
            samples[spec.name] = torch.randint(0, 2, shapes[spec.name], generator=generator).to(dtype)
    return samples


def _preprocessing(model: TorchModel) -> PreprocessSpec:
    if model.preprocess is None:
        raise UsageError(
            "There is no preprocessing to embed.",
            found=", ".join(spec.describe() for spec in model.inputs),
            expected="a model that takes images",
            next_step="leave --embed-preprocessing out",
        )
    return model.preprocess


def _request(config: ExportConfig) -> Request:
    timer = None
    if config.decomposition == MEASURED:
        timer = RuntimeTimer(runtime(config.measure_on), config)
    return Request(
        decomposition=config.decomposition,
        int8=config.precision.is_int8,
        sixteen_bit=config.precision.floating is not Precision.FP32,
        timer=timer,
    )


def _readable(traced: Trace, graph: onnx.ModelProto, scopes: Mapping[str, str]) -> onnx.ModelProto:
    """Return the graph with readable names, and sizes called after the axes they follow."""
    graph = run_passes(graph, FoldBatchNorms(), RemoveUnusedNodesPass())
    rename(graph, scopes, kept=traced.parameter_names)
    for value, shape in zip(graph.graph.input, traced.input_shapes, strict=True):
        _name_dims(value, shape)
    for value, shape in zip(graph.graph.output, traced.output_shapes, strict=True):
        _name_dims(value, shape)
    return graph


def _equalized(graph: onnx.ModelProto, config: ExportConfig) -> tuple[onnx.ModelProto, tuple[Equalized, ...]]:
    """Return the graph with scales of channels moved where INT8 gains by it, and what was moved."""
    if not config.precision.is_int8 or "equalize" in config.without:
        return graph, ()
    equalize = EqualizeChannels()
    return run_passes(onnx.shape_inference.infer_shapes(graph, data_prop=True), equalize), tuple(equalize.done)


def _name_dims(value: onnx.ValueInfoProto, shape: tuple[Dim, ...]) -> None:
    value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, shape))


def _metadata(model: TorchModel, config: ExportConfig, attention: tuple[AttentionRecord, ...]) -> dict[str, str]:
    return {
        "name": model.name,
        **({"preprocessing": _json(model.preprocess)} if model.preprocess is not None else {}),
        **({"decoding": _json(model.decoding)} if model.decoding is not None else {}),
        "preprocessing_embedded": str(config.embed_preprocessing).lower(),
        "labels": _json(model.labels),
        "weights_digest": model.digest,
        "weights": str(model.weights),
        "size_divisor": str(model.size_divisor),
        "decomposition": config.decomposition,
        METADATA_KEY: _json(attention),
        "tools": _json(tool_versions(*TOOLS)),
    }


def _json(value: Any) -> str:
    return json.dumps(to_builtins(value), separators=(",", ":"), sort_keys=True)


def _finish(model: onnx.ModelProto, metadata: dict[str, str]) -> onnx.ModelProto:
    """Return the graph with inferred shapes and our metadata, after every check."""
    _strip(model)
    model.producer_name, model.producer_version = "linglos-deploy", __version__
    model.graph.name = metadata["name"]
    onnx.helper.set_model_props(model, {METADATA_PREFIX + key: value for key, value in metadata.items()})
    _check_operators(model)
    try:
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError("The exported graph is not valid ONNX.", found=str(error).strip().splitlines()[0]) from error
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Remove stack traces, paths and the exporter's notes: they differ between machines that export the same model."""
    del model.metadata_props[:], model.graph.metadata_props[:], model.functions[:]
    model.doc_string = model.graph.doc_string = ""
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]


def _check_operators(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.domain not in {"", "ai.onnx"}:
            raise ExportError(
                f"Node '{node.name}' is not a standard operator.",
                found=f"{node.domain}::{node.op_type}",
                expected="operators of ai.onnx, which every runtime knows",
            )
    imports = [entry for entry in model.opset_import if entry.domain in {"", "ai.onnx"}]
    del model.opset_import[:]
    model.opset_import.extend(imports[:1])
