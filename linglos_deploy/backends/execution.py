"""What a runtime really runs of an INT8 graph, layer by layer, as it says itself after it has loaded it.

    ONNX Runtime    the graph that its optimizer leaves: QLinearConv multiplies integers, Conv does not
    OpenVINO        the execution graph: the runtime precision of each node, and the layers that went into it

The answer has the form that an engine's record has, :class:`~linglos_deploy.engines.record.PrecisionProof`. Nothing
about what a model answers tells that a layer which should be INT8 runs in floating point; only the time does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from linglos_deploy.backends.asked import AskedLayer, asked_layers
from linglos_deploy.engines.record import LayerProof, PrecisionProof

if TYPE_CHECKING:
    import onnx

INT8 = "int8"
_INTEGER = frozenset({"ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "QGemm", "QLinearConv", "QLinearMatMul"})
"""What ONNX Runtime calls products of integers."""
_PRODUCTS = frozenset({"Convolution", "Deconvolution", "FullyConnected", "MatMul"})
"""What OpenVINO's CPU plugin calls products."""
_OPENVINO_TYPES = {"u8": INT8, "i8": INT8, "f32": "float32", "f16": "float16", "bf16": "bfloat16"}
_SHOWN = 5

Found = Mapping[str, tuple[str, str]]
"""By the node's name: the precision that it has, empty if that cannot be told, and why it has another than INT8."""


def prove_execution(asked: Sequence[AskedLayer], found: Found, *, runtime: str) -> PrecisionProof:
    """Hold what a runtime does against what a graph asks of it.

    Args:
        asked: The convolutions and matrix products of the graph.
        found: What was seen of them.
        runtime: Its name.
    """
    nodes = tuple(_prove(layer, found, runtime) for layer in asked if layer.precision == INT8)
    lacking = [node for node in nodes if node.got != INT8]
    detail = f"{len(nodes) - len(lacking)} of {len(nodes)} INT8 layers compute in integers"
    if lacking:
        shown = [f"'{it.node}' {f'runs in {it.got}' if it.got else 'is not known'}: {it.reason}" for it in lacking]
        more = f"; and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        detail += f"; {'; '.join(shown[:_SHOWN])}{more}"
    none = bool(nodes) and all(node.got not in {"", INT8} for node in nodes)
    return PrecisionProof(
        inspected=True,
        detail=detail,
        expected=(INT8,) if nodes else (),
        layers=dict(Counter(node.got or "unknown" for node in nodes)),
        missing=(INT8,) if none else (),
        nodes=nodes,
    )


def _prove(layer: AskedLayer, found: Found, runtime: str) -> LayerProof:
    got, reason = found.get(layer.node, ("", f"{runtime} names no such layer"))
    return LayerProof(layer.node, layer.op_type, layer.precision, got, "" if got == layer.precision else reason)


def onnxruntime_execution(path: Path, options: Any) -> PrecisionProof:
    """Look at the graph that ONNX Runtime's optimizer leaves.

    Its last level changes layouts and names only, and is left out: which operators multiply integers is settled before.

    Args:
        path: An INT8 graph.
        options: Session options of the mode that it will run in; changed here.
    """
    import onnx
    import onnxruntime

    graph = onnx.load(path)
    with TemporaryDirectory(prefix="linglos-execution-") as folder:
        options.optimized_model_filepath = f"{folder}/optimized.onnx"
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        optimized = onnx.load(options.optimized_model_filepath, load_external_data=False)
    return prove_execution(asked_layers(graph), _in_optimized(graph, optimized), runtime="onnxruntime")


def _in_optimized(graph: onnx.ModelProto, optimized: onnx.ModelProto) -> dict[str, tuple[str, str]]:
    """Find each product in the optimized graph: under its own name, else by the integers of its weight."""
    named = {node.name: node.op_type for node in optimized.graph.node if node.name}
    reading: dict[str, set[str]] = {}
    for node in optimized.graph.node:
        for name in node.input:
            reading.setdefault(name, set()).add(node.op_type)
    makers = {name: node for node in graph.graph.node for name in node.output}
    found = {}
    for node in graph.graph.node:
        weight = next((makers[it] for it in node.input[1:2] if it in makers), None)
        kinds = reading.get(weight.input[0], set()) if weight is not None and weight.input else set()
        kind = named.get(node.name, "")
        if kind in _INTEGER or kinds & _INTEGER:
            found[node.name] = (INT8, "")
        elif kind or kinds:
            found[node.name] = ("float32", _why_float(graph, node))
    return found


def _why_float(graph: onnx.ModelProto, node: onnx.NodeProto) -> str:
    """Return what keeps ONNX Runtime from multiplying integers."""
    if node.op_type == "ConvTranspose":
        return "it has no integer ConvTranspose"
    if node.op_type != "Conv":
        return "its Q/DQ pairs were not fused with it"
    behind, name = "", node.output[0]
    while True:
        readers = [reader for reader in graph.graph.node if name in reader.input]
        if name in {output.name for output in graph.graph.output} or not readers:
            return "its result is an output of the graph, which is not stored as integers"
        if any(reader.op_type == "QuantizeLinear" for reader in readers):
            if len(readers) > 1:
                return "other nodes read its result before it is rounded"
            return "its Q/DQ pairs were not fused with it" + (f", nor the {behind} behind it" if behind else "")
        if len(readers) > 1 or readers[0].op_type not in {"Relu", "Clip"}:
            return "no Quantize follows it, so its result is not stored as integers"
        behind, name = readers[0].op_type, readers[0].output[0]


def openvino_execution(path: Path, compiled: Any) -> PrecisionProof:
    """Look at the execution graph that OpenVINO compiled.

    Args:
        path: The graph that it was compiled from.
        compiled: The compiled model.
    """
    import onnx

    graph = onnx.load(path)
    asked = asked_layers(graph)
    outputs = {node.output[0]: node.name for node in graph.graph.node}
    found: dict[str, tuple[str, str]] = {}
    for operation in compiled.get_runtime_model().get_ops():
        told = {key: _text(value) for key, value in operation.get_rt_info().items()}
        if told.get("layerType") not in _PRODUCTS:
            continue
        kind = _OPENVINO_TYPES.get(told.get("runtimePrecision", ""), "")
        reason = f"its {told['layerType']} reads {told.get('runtimePrecision', 'nothing that it tells')}"
        for name in told.get("originalLayersNames", "").split(","):
            plain = name.partition("/WithoutBiases")[0]
            for known in {plain, outputs.get(plain, plain)}:
                found.setdefault(known, (kind, "" if kind == INT8 else reason))
    return prove_execution(asked, found, runtime="openvino")


def _text(value: Any) -> str:
    return str(value.value if hasattr(value, "value") else value)
