"""What the layers of a built engine really compute in, compared with what the graph asks for.

Under strong typing a builder cannot silently keep float32 where the graph says float16; it can still run a Q/DQ pair
as arithmetic instead of fusing it into an INT8 kernel. The inspector's JSON says which happened. Its keys changed: a
tensor has ``Format/Datatype`` ("Half", or "Row major linear FP16 format") up to 10.x, and ``Format`` and ``DataType``
apart in 11.x (NVIDIA, "Migrating IEngineInspector Usage from TensorRT 10.x to 11.x").
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from linglos_deploy.engines.record import PrecisionProof
from linglos_deploy.errors import BuildError

if TYPE_CHECKING:
    import onnx

_WORDS = (
    ("int8", ("int8",)),
    ("bfloat16", ("bf16", "bfloat16")),
    ("float16", ("half", "fp16", "float16")),
    ("float32", ("float", "fp32", "float32", "tf32")),
)
"""Our names -> the inspector's words, the narrowest first, so that "bfloat16" is not taken for "float"."""

_MOVES = ("reformat", "shuffle", "move", "copy", "noop", "constant", "shapehostotodevice", "signal", "wait")


def expected_precisions(graph: onnx.ModelProto) -> tuple[str, ...]:
    """Return the precisions that a graph asks its convolutions and matrix products to run in.

    A product whose data passes a DequantizeLinear is to run in INT8; any other one in the type of its weights.
    """
    import onnx

    producers = {output: node for node in graph.graph.node for output in node.output}
    types = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    found: set[str] = set()
    for node in graph.graph.node:
        if node.op_type not in {"Conv", "ConvTranspose", "Gemm", "MatMul"}:
            continue
        makers = [producers.get(name) for name in node.input[:2]]
        if all(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers):
            found.add("int8")
        else:
            weight = next((types[name] for name in node.input[:2] if name in types), onnx.TensorProto.UNDEFINED)
            found.add(_ONNX_NAMES.get(weight, ""))
    return tuple(name for name, _ in _WORDS if name in found)


def read_inspector(text: str, expected: tuple[str, ...], times: Mapping[str, float] | None = None) -> PrecisionProof:
    """Count layers by precision.

    Args:
        text: JSON of ``EngineInspector.get_engine_information``.
        expected: What the graph asks for.
        times: Running time per layer name, in any unit.
    """
    layers = _layers(text)
    if not layers:
        return PrecisionProof(False, "the inspector showed no layers", expected=expected)
    counts: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    moves = 0
    for layer in layers:
        if _moves_only(layer):
            moves += 1
            continue
        precision = _layer_precision(layer)
        counts[precision] += 1
        seconds[precision] += (times or {}).get(str(layer.get("Name", "")), 0.0)  # type: ignore[assignment]
    total = sum(seconds.values())
    missing = tuple(name for name in expected if not counts[name])
    shares = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    return PrecisionProof(
        inspected=True,
        detail=f"{sum(counts.values())} layers: {shares}; {moves} only move data",
        expected=expected,
        layers=dict(counts),
        reformat_layers=moves,
        time_share={name: value / total for name, value in seconds.items()} if total else None,
        missing=missing,
    )


def require_precisions(proof: PrecisionProof, *, allow_fallback: bool = False) -> None:
    """Refuse an engine without a single layer in a precision that its graph asks for.

    Raises:
        BuildError: A precision is missing.
    """
    if proof.missing and not allow_fallback:
        raise BuildError(
            f"The engine has no {' and no '.join(proof.missing)} layers, though the graph asks for them.",
            found=proof.detail,
            expected=f"layers in {', '.join(proof.expected)}",
            next_step="check that this GPU supports them, or accept the engine as it is with --allow-fallback",
        )


_ONNX_NAMES = {1: "float32", 10: "float16", 16: "bfloat16"}  # onnx.TensorProto.DataType


def _layers(text: str) -> list[dict[str, Any]]:
    try:
        content = json.loads(text)
    except ValueError:
        return []
    layers = content.get("Layers", []) if isinstance(content, dict) else content
    return [layer for layer in layers if isinstance(layer, dict)]


def _moves_only(layer: dict[str, Any]) -> bool:
    kind = str(layer.get("LayerType", "")).lower()
    return any(word in kind for word in _MOVES)


def _layer_precision(layer: dict[str, Any]) -> str:
    """The narrowest type among a layer's inputs: a convolution of INT8 data may well write float16."""
    for tensors in (layer.get("Inputs"), layer.get("Outputs")):
        found = {_tensor_precision(tensor) for tensor in tensors or () if isinstance(tensor, dict)}
        for name, _ in _WORDS:
            if name in found:
                return name
    return "other"


def _tensor_precision(tensor: dict[str, Any]) -> str:
    for key in ("DataType", "Datatype", "Format/Datatype", "Format"):
        text = str(tensor.get(key, "")).lower()
        for name, words in _WORDS:
            if any(word in text for word in words):
                return name
    return "other"
