"""What a file is and how it came to be: the answer of ``linglos-deploy inspect``."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from linglos_deploy.artifacts import load_onnx, onnx_signature
from linglos_deploy.bundle import Manifest, open_bundle
from linglos_deploy.calibration.registry import threshold_methods
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.calibration.thresholds import threshold
from linglos_deploy.codec import read_json
from linglos_deploy.engines.record import EngineRecord, read_record
from linglos_deploy.errors import ArtifactError
from linglos_deploy.exporters.decompositions.records import METADATA_KEY, AttentionRecord, read_attention
from linglos_deploy.files import sha256_file
from linglos_deploy.graph.metadata import PREFIX
from linglos_deploy.kinds import Kind, kind_of, report_type
from linglos_deploy.quantization.plan import QuantPlan
from linglos_deploy.reports.comparison import ComparisonReport
from linglos_deploy.reports.doctor import DoctorReport
from linglos_deploy.reports.export import ExportReport
from linglos_deploy.reports.parity import LayerReport, ParityOutcome, ParityReport
from linglos_deploy.reports.profile import ProfileReport
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
        image_count: Images seen, or samples of another kind.
        of_images: Whether they were images.
        synthetic: Whether they were made up.
        tools: Versions of what made it.
        tensors: What was seen, by name.
    """

    graph_digest: str
    data_digest: str
    image_count: int
    of_images: bool
    synthetic: bool
    tools: Mapping[str, str]
    tensors: tuple[TensorSummary, ...]


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a file.

    Attributes:
        name: Its name.
        dtype: Its element type, as safetensors writes it, such as ``F32``.
        shape: Its shape.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class TensorFile:
    """A safetensors file at a glance.

    Attributes:
        file: Its path.
        bytes: Size of the file.
        holds: ``golden tensors`` or ``a checkpoint``.
        metadata: What it says of itself.
        tensors: What it holds, by name.
    """

    file: str
    bytes: int
    holds: str
    metadata: Mapping[str, str]
    tensors: tuple[StoredTensor, ...]


Report = ExportReport | ProfileReport | DoctorReport | LayerReport | ParityReport | ParityOutcome | ComparisonReport
Content = Manifest | GraphDescription | EngineRecord | TableSummary | QuantPlan | TensorFile | Report


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found at a path.

    Attributes:
        kind: What it is.
        path: Where it lies.
        content: A manifest, a graph's description, an engine's record, a table's summary, a plan, what a file of
            tensors holds, or a report.
    """

    kind: Kind
    path: str
    content: Content


def describe(path: Path) -> Inspection:
    """Describe what lies at ``path``; a bundle is verified byte by byte.

    Raises:
        ArtifactError: It is missing or damaged.
        UsageError: It is nothing that this program makes.
    """
    kind = kind_of(path)
    readers: dict[Kind, Callable[[Path], Content]] = {
        Kind.BUNDLE: lambda path: open_bundle(path).manifest,
        Kind.MANIFEST: lambda path: read_json(Manifest, path),
        Kind.GRAPH: describe_graph,
        Kind.ENGINE: read_record,
        Kind.RECORD: lambda path: read_json(EngineRecord, path),
        Kind.TABLE: lambda path: summarize_table(CalibrationTable.load(path)),
        Kind.PLAN: QuantPlan.load,
        Kind.TENSORS: describe_tensors,
        Kind.REPORT: _read_report,
    }
    return Inspection(kind, str(path), readers[kind](path))


def describe_tensors(path: Path) -> TensorFile:
    """Describe a safetensors file from its header; no tensor is read.

    Raises:
        ArtifactError: It is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata = dict(file.metadata() or {})
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            tensors = tuple(
                StoredTensor(name, str(part.get_dtype()), tuple(part.get_shape()))
                for name, part in sorted(slices.items())
            )
    except (SafetensorError, OSError) as error:
        raise ArtifactError(
            f"'{path}' is no usable file of tensors.",
            found=str(error),
            expected="a complete safetensors file",
            next_step="copy it again from where it was made",
        ) from error
    golden = any(tensor.name.startswith("torch:") for tensor in tensors)
    holds = "golden tensors" if golden else "a checkpoint"
    return TensorFile(str(path), path.stat().st_size, holds, metadata, tensors)


def _read_report(path: Path) -> Report:
    kind = report_type(json.loads(path.read_bytes()))
    assert kind is not None  # that is how it was told to be a report
    report: Report = read_json(kind, path)
    return report


def summarize_table(table: CalibrationTable) -> TableSummary:
    """Return the ranges and clipping bounds of a table."""
    return TableSummary(
        graph_digest=table.graph_digest,
        data_digest=table.data_digest,
        image_count=table.image_count,
        of_images=table.preprocess is not None,
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
