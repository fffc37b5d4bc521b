"""What the layers of a built engine really compute in, node by node, compared with what the graph asks for.

Under strong typing a builder cannot silently keep float32 where the graph says float16; it can still run a Q/DQ pair
as arithmetic instead of fusing it into an INT8 kernel. The inspector's JSON says which happened. Its keys changed: a
tensor has ``Format/Datatype`` ("Half", or "Row major linear FP16 format") up to 10.x, and ``Format`` and ``DataType``
apart in 11.x (NVIDIA, "Migrating IEngineInspector Usage from TensorRT 10.x to 11.x"). Which nodes a layer holds is in
``Metadata`` ("[ONNX Layer: stem/Conv]", several with control characters between them) and, of older kernels, in its
name ("stem/Conv + stem/Relu").
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from linglos_deploy.backends.asked import AskedLayer
from linglos_deploy.engines.record import LayerProof, PrecisionProof
from linglos_deploy.errors import BuildError

PRECISIONS = ("int8", "fp8", "bfloat16", "float16", "float32")
"""The order in which precisions are told."""

_WORDS = {
    "int8": "int8",
    "fp8": "fp8",
    "half": "float16",
    "fp16": "float16",
    "float16": "float16",
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
    "float": "float32",
    "fp32": "float32",
    "float32": "float32",
    "tf32": "float32",
}
"""The inspector's words -> our names. Whole words: "uint8" is no "int8", "bfloat16" is no "float"."""

_MOVES = ("reformat", "shuffle", "move", "copy", "noop", "constant", "shapehostotodevice", "signal", "wait", "cast")
_CONVERTS = ("quantize", "dequantize")
_PRODUCTS = re.compile(r"conv(?!ert)|gemm|matmul|matrix|fully|mha|fusion")
_NODE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_INT8_TACTIC = re.compile(r"(?<![a-z0-9])i8|int8", re.IGNORECASE)
_SHOWN = 5


def expected_precisions(asked: Sequence[AskedLayer]) -> tuple[str, ...]:
    """Return the precisions that a graph asks its convolutions and matrix products to run in."""
    found = {layer.precision for layer in asked}
    return tuple(name for name in PRECISIONS if name in found)


def read_inspector(text: str, asked: Sequence[AskedLayer], times: Mapping[str, float] | None = None) -> PrecisionProof:
    """Say of every convolution and matrix product of the graph in what it runs.

    Args:
        text: JSON of ``EngineInspector.get_engine_information``.
        asked: What the graph asks for.
        times: Running time per layer name, in any unit.
    """
    expected = expected_precisions(asked)
    layers = _layers(text)
    if not layers:
        return PrecisionProof(False, "the inspector showed no layers", expected=expected)
    working = [layer for layer in layers if not layer.moves]
    counts = Counter(layer.precision for layer in working)
    seconds: Counter[str] = Counter()
    for layer in working:
        seconds[layer.precision] += (times or {}).get(layer.name, 0.0)  # type: ignore[assignment]
    total = sum(seconds.values())
    nodes = tuple(_prove(node, working) for node in asked)
    return PrecisionProof(
        inspected=True,
        detail=_describe(nodes, moves=len(layers) - len(working)),
        expected=expected,
        layers=dict(counts),
        reformat_layers=len(layers) - len(working),
        time_share={name: value / total for name, value in seconds.items()} if total else None,
        missing=tuple(name for name in expected if _none_has(name, nodes)),
        nodes=nodes,
    )


def require_precisions(proof: PrecisionProof, *, allow_fallback: bool = False) -> None:
    """Refuse an engine in which not one layer runs in a precision that the graph asks it for.

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


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer of the engine.

    Attributes:
        name: Its name.
        kind: Its type, lower case.
        inputs: Precision of each input, ``other`` for anything else.
        weights: Precision of its weights, empty if it names none.
        tactic: Name of its kernel.
        nodes: Nodes of the graph that it holds.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    weights: str
    tactic: str
    nodes: frozenset[str]

    @property
    def moves(self) -> bool:
        """Whether it changes a format or a type and computes nothing."""
        return any(word in self.kind for word in (*_MOVES, *_CONVERTS)) and not self.multiplies

    @property
    def multiplies(self) -> bool:
        """Whether its type is that of a convolution or a matrix product."""
        return _PRODUCTS.search(self.kind) is not None

    @property
    def precision(self) -> str:
        """The type of what it reads first: a convolution of INT8 data may well write float16."""
        return self.inputs[0] if self.inputs else "other"


def _prove(asked: AskedLayer, layers: Sequence[_Layer]) -> LayerProof:
    def proof(got: str, reason: str = "") -> LayerProof:
        return LayerProof(asked.node, asked.op_type, asked.precision, got, reason)

    holding = [layer for layer in layers if asked.node in layer.nodes]
    found = [layer for layer in holding if layer.multiplies] or holding
    if not found:
        return proof("", "no layer of the engine names it")
    answers = [_precision_of(layer, asked) for layer in found]
    worst = next((answer for answer in answers if answer != asked.precision), asked.precision)
    if worst == asked.precision:
        return proof(worst)
    layer = found[answers.index(worst)]
    if not worst:
        return proof("", f"'{layer.name}' ({layer.kind}) does not say in what it computes")
    return proof(worst, f"'{layer.name}' ({layer.kind}) reads {', '.join(layer.inputs) or 'nothing'}")


def _precision_of(layer: _Layer, asked: AskedLayer) -> str:
    """Return in what a layer computes a product.

    Integers that come in prove nothing by themselves: they must be its operands, the weights must be integers too, and
    a layer of another kind may turn them into floats first.
    """
    if asked.precision not in {"int8", "fp8"}:
        return layer.weights or next((name for name in layer.inputs if name != "other"), "")
    integers = sum(name == asked.precision for name in layer.inputs)
    if layer.weights and layer.weights != asked.precision:
        return layer.weights
    if layer.precision != asked.precision or integers < max(asked.operands, 1):
        return next((name for name in layer.inputs if name not in {"other", asked.precision}), "")
    if not layer.multiplies and not _INT8_TACTIC.search(layer.tactic):
        return ""
    return asked.precision


def _none_has(precision: str, nodes: Sequence[LayerProof]) -> bool:
    """Whether every layer that was asked for a precision is known to run in another one."""
    return all(node.got not in {"", precision} for node in nodes if node.asked == precision)


def _describe(nodes: Sequence[LayerProof], *, moves: int) -> str:
    parts = []
    for name in PRECISIONS:
        asked = [node for node in nodes if node.asked == name]
        if not asked:
            continue
        lacking = [node for node in asked if node.got != name]
        text = f"{name} was asked for {len(asked)} layers, {len(asked) - len(lacking)} have it"
        if lacking:
            shown = [f"{it.node} {f'runs in {it.got}' if it.got else 'unknown'}: {it.reason}" for it in lacking]
            more = f"; and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
            text += f" (not: {'; '.join(shown[:_SHOWN])}{more})"
        parts.append(text)
    return "; ".join([*parts, f"{moves} layers only move or convert data"])


def _layers(text: str) -> list[_Layer]:
    try:
        content = json.loads(text)
    except ValueError:
        return []
    layers = content.get("Layers", []) if isinstance(content, dict) else content
    return [_layer(layer) for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []


def _layer(layer: dict[str, Any]) -> _Layer:
    name = str(layer.get("Name", ""))
    weights = layer.get("Weights")
    return _Layer(
        name=name,
        kind=str(layer.get("LayerType", "")).lower(),
        inputs=tuple(_tensor_precision(tensor) for tensor in layer.get("Inputs") or () if isinstance(tensor, dict)),
        weights=_word(str(weights.get("Type", ""))) if isinstance(weights, dict) and weights.get("Count", 1) else "",
        tactic=str(layer.get("TacticName", "")),
        nodes=frozenset((*_NODE.findall(str(layer.get("Metadata", ""))), *re.split(r" \+ | \|\| ", name))),
    )


def _tensor_precision(tensor: dict[str, Any]) -> str:
    for key in ("DataType", "Datatype", "Format/Datatype", "Format"):
        if found := _word(str(tensor.get(key, ""))):
            return found
    return "other"


def _word(text: str) -> str:
    """Return the first precision among the whole words of a text, empty if there is none."""
    return next((_WORDS[word] for word in re.findall(r"[a-z]+\d*", text.lower()) if word in _WORDS), "")
