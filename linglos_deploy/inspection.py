"""What a file is and how it came to be: the answer of ``linglos-deploy inspect``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from linglos_deploy.artifacts import load_onnx, onnx_signature
from linglos_deploy.bundle import Manifest, open_bundle
from linglos_deploy.calibration.registry import threshold_methods
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.calibration.thresholds import threshold
from linglos_deploy.engines.record import EngineRecord, read_record
from linglos_deploy.exporters.decompositions.records import METADATA_KEY, AttentionRecord, read_attention
from linglos_deploy.files import sha256_file
from linglos_deploy.graph.metadata import PREFIX
from linglos_deploy.kinds import Kind, kind_of
from linglos_deploy.quantization.plan import QuantPlan
from linglos_deploy.signature import ModelSignature


@dataclass(frozen=True, slots=True)
class GraphDescription:
    """An ONNX graph at a glance.

    Attributes:
        file: Its path.
        bytes: Size of the file.
        digest: SHA-256 of the file.
        signature: Inputs and outputs.
        opset: Version of the standard operator set.
        domains: Operator domains in use; ``""`` is the standard one.
        operators: Number of nodes of each type, most frequent first.
        weights: Bytes of stored weights by element type, largest first.
        attention: How each key-only attention is written down, at what cost, and why.
        metadata: What else the exporter wrote into it.
    """

    file: str
    bytes: int
    digest: str
    signature: ModelSignature
    opset: int
    domains: tuple[str, ...]
    operators: Mapping[str, int]
    weights: Mapping[str, int]
    attention: tuple[AttentionRecord, ...]
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TensorSummary:
    """What calibration saw of one tensor.

    Attributes:
        tensor: Its name.
        minimum: Smallest value.
        maximum: Largest value.
        mean: Mean value.
        std: Standard deviation.
        nonfinite: Values that were NaN or infinite.
        bounds: Where each method would clip, in the tensor's unit.
    """

    tensor: str
    minimum: float
    maximum: float
    mean: float
    std: float
    nonfinite: int
    bounds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TableSummary:
    """A calibration table at a glance.

    Attributes:
        graph_digest: SHA-256 of the graph it belongs to.
        data_digest: Digest of the images.
        image_count: Images seen.
        synthetic: Whether they were made up.
        tools: Versions of what made it.
        tensors: What was seen, by name.
    """

    graph_digest: str
    data_digest: str
    image_count: int
    synthetic: bool
    tools: Mapping[str, str]
    tensors: tuple[TensorSummary, ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found at a path.

    Attributes:
        kind: What it is.
        path: Where it lies.
        content: A manifest, a graph's description, an engine's record, a table's summary, or a plan.
    """

    kind: Kind
    path: str
    content: Manifest | GraphDescription | EngineRecord | TableSummary | QuantPlan


def describe(path: Path) -> Inspection:
    """Describe what lies at ``path``; a bundle is verified byte by byte.

    Raises:
        ArtifactError: It is missing or damaged.
        UsageError: It is nothing that this program makes.
    """
    kind = kind_of(path)
    content: Manifest | GraphDescription | EngineRecord | TableSummary | QuantPlan
    if kind is Kind.BUNDLE:
        content = open_bundle(path).manifest
    elif kind is Kind.GRAPH:
        content = describe_graph(path)
    elif kind is Kind.ENGINE:
        content = read_record(path)
    elif kind is Kind.TABLE:
        content = summarize_table(CalibrationTable.load(path))
    else:
        content = QuantPlan.load(path)
    return Inspection(kind, str(path), content)


def summarize_table(table: CalibrationTable) -> TableSummary:
    """Return the ranges and clipping bounds of a table."""
    return TableSummary(
        graph_digest=table.graph_digest,
        data_digest=table.data_digest,
        image_count=table.image_count,
        synthetic=table.synthetic,
        tools=dict(table.tools),
        tensors=tuple(
            TensorSummary(
                tensor=name,
                minimum=float(stats.minimum),
                maximum=float(stats.maximum),
                mean=stats.mean,
                std=stats.std,
                nonfinite=stats.count - stats.finite,
                bounds={method: float(threshold(stats, method)) for method in threshold_methods()},
            )
            for name, stats in sorted(table.tensors.items())
        ),
    )


def describe_graph(path: Path) -> GraphDescription:
    """Describe an ONNX file.

    Raises:
        ArtifactError: The file is missing, truncated or not an ONNX model.
    """
    import onnx

    model = load_onnx(path)
    weights: Counter[str] = Counter()
    for tensor in model.graph.initializer:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        count = 1
        for dim in tensor.dims:
            count *= dim
        weights[dtype.name] += count * dtype.itemsize
    return GraphDescription(
        file=str(path),
        bytes=path.stat().st_size,
        digest=sha256_file(path),
        signature=onnx_signature(model),
        opset=max((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), default=0),
        domains=tuple(sorted({node.domain for node in model.graph.node})),
        operators=dict(Counter(node.op_type for node in model.graph.node).most_common()),
        weights=dict(weights.most_common()),
        attention=read_attention(path),
        metadata={
            entry.key.removeprefix(PREFIX): entry.value
            for entry in model.metadata_props
            if entry.key.startswith(PREFIX) and entry.key != PREFIX + METADATA_KEY
        },
    )
