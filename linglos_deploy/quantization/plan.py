"""What will be done to a graph, decided before anything is edited, with the reason for every tensor and node."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.artifacts import OnnxArtifact, load_onnx
from linglos_deploy.codec import read_json, write_json
from linglos_deploy.errors import ArtifactError, QuantizationError
from linglos_deploy.quantization.ranges import HOPELESS_DB, choose_limits, choose_range
from linglos_deploy.quantization.rounding import ACTIVATION_LIMIT, scale_type, scales_for
from linglos_deploy.quantization.scheme import QuantScheme

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from linglos_deploy.calibration.gains import Weighing
    from linglos_deploy.calibration.statistics import TensorStatistics
    from linglos_deploy.calibration.table import CalibrationTable
    from linglos_deploy.quantization.candidates import Candidate

SCHEMA = "linglos.plan/2"
WEIGHT_BITS = (7, 8)


@dataclass(frozen=True, slots=True)
class TensorDecision:
    """What happens to one activation that a convolution or linear layer reads.

    Attributes:
        tensor: Its name.
        quantize: Whether a Q/DQ pair goes in front of the nodes in ``consumers``.
        reason: Why, in words.
        consumers: Names of the nodes that read it in INT8; other readers keep the unrounded tensor.
        scale: Its value per step, if quantized; left out where the plan is written by hand, it follows from the bound.
        bound: Magnitude from which values are clipped, if quantized, where zero is the middle of the integers.
        low: Smallest value that is kept, at most 0, where any integer may stand for zero. Left out together with
            ``high``, both follow from the bound.
        high: Largest value that is kept there, at least 0.
        method: How the bound was found, if quantized: the scheme's, or ``weighted`` or ``mse`` where that one failed or
            does not pay. ``None`` where a person set the bound.
        expected_db: Signal-to-noise ratio in decibels that the bound is expected to leave of the tensor, as the readers
            weigh its channels; ``None`` where the bound was not found from statistics, or nothing is lost.
    """

    tensor: str
    quantize: bool
    reason: str
    consumers: tuple[str, ...] = ()
    scale: float | None = None
    bound: float | None = None
    low: float | None = None
    high: float | None = None
    method: str | None = None
    expected_db: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "consumers", tuple(self.consumers))


@dataclass(frozen=True, slots=True)
class ResultDecision:
    """What happens to what a convolution leaves behind, where a placement stores that as integers.

    Attributes:
        tensor: Its name: the output of the convolution, or of the ``Relu`` or ``Clip`` behind it.
        quantize: Whether it may be rounded. Placements that would have to leave the layer in floating point otherwise.
        reason: Why, in words.
        low: Smallest value that is kept, at most 0, if it may be rounded.
        high: Largest value that is kept, at least 0.
    """

    tensor: str
    quantize: bool
    reason: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class NodeDecision:
    """What happens to one convolution or linear layer.

    Attributes:
        node: Its name.
        op_type: ``"Conv"``, ``"ConvTranspose"``, ``"Gemm"`` or ``"MatMul"``.
        output: Its output tensor, which identifies it.
        quantize: Whether it becomes INT8.
        reason: Why, in words.
        data: The activation it reads.
        weight: The weight it reads.
        weight_axis: Axis of the weight's output channels, each of which gets a scale.
        weight_bits: Width of the quantized weight, 8 or 7; ``None`` if it stays in floating point.
    """

    node: str
    op_type: str
    output: str
    quantize: bool
    reason: str
    data: str
    weight: str
    weight_axis: int
    weight_bits: int | None


@dataclass(frozen=True, slots=True)
class QuantPlan:
    """Everything that applying it needs, and nothing that it does not.

    The decisions may be edited: each field is obeyed, or refused where it contradicts another one or the graph. The
    ``reason`` and ``expected_db`` of a decision and the scheme's ``method``, ``percentile``, ``weight_bits`` and
    ``narrow`` record how it was made, and so does a tensor's ``method``, which has to be one that the scheme allows and
    needs the bound that it found; the parity check finds it again in the calibration table.

    Attributes:
        graph_digest: SHA-256 of the graph it was made for.
        scheme: What was asked for.
        tensors: A decision for every activation that a candidate reads, in graph order.
        nodes: A decision for every convolution and linear layer, in graph order.
        data_digest: Digest of the calibration images.
        preprocess_digest: Digest of their preprocessing.
        image_count: How many images the ranges come from.
        synthetic: Whether they were made up; then accuracy means nothing.
        results: A decision for what each convolution that becomes INT8 leaves behind, unless ``tensors`` has its range.
            Without one a placement that has to round it leaves the layer in floating point.
        schema: Version of this file format.
    """

    graph_digest: str
    scheme: QuantScheme
    tensors: tuple[TensorDecision, ...]
    nodes: tuple[NodeDecision, ...]
    data_digest: str
    preprocess_digest: str
    image_count: int
    synthetic: bool
    results: tuple[ResultDecision, ...] = ()
    schema: str = field(default=SCHEMA)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", tuple(self.tensors))
        object.__setattr__(self, "nodes", tuple(self.nodes))
        object.__setattr__(self, "results", tuple(self.results))
        if self.schema != SCHEMA:
            raise ArtifactError(
                "The quantization plan is of another version.",
                found=self.schema,
                expected=SCHEMA,
                next_step="make it again with 'linglos-deploy quantize'",
            )
        for decision in self.tensors:
            numbers = [number for number in (decision.scale, decision.bound) if number is not None]
            usable = numbers and all(math.isfinite(number) and number > 0 for number in numbers)
            if decision.quantize and not usable:
                raise ArtifactError(
                    f"The quantization plan has no usable scale for tensor '{decision.tensor}'.",
                    found=f"scale {decision.scale}, bound {decision.bound}",
                    expected="a positive, finite number",
                    next_step="make it again with 'linglos-deploy quantize'",
                )
            if decision.quantize:
                _check_limits(decision, (decision.low, decision.high), whole=False)
        for result in self.results:
            if result.quantize:
                _check_limits(result, (result.low, result.high), whole=True)

    @property
    def quantized_nodes(self) -> tuple[NodeDecision, ...]:
        """The nodes that become INT8."""
        return tuple(decision for decision in self.nodes if decision.quantize)

    @property
    def hopeless_tensors(self) -> tuple[TensorDecision, ...]:
        """Activations that become INT8 although next to nothing is expected to be left of them."""
        return tuple(
            decision
            for decision in self.quantized_tensors
            if decision.expected_db is not None and decision.expected_db < HOPELESS_DB
        )

    @property
    def quantized_tensors(self) -> tuple[TensorDecision, ...]:
        """The activations that become INT8."""
        return tuple(decision for decision in self.tensors if decision.quantize)

    def save(self, path: Path) -> None:
        """Write the plan as JSON, whole or not at all."""
        write_json(self, path)

    @classmethod
    def load(cls, path: Path) -> QuantPlan:
        """Read a plan written by :meth:`save`.

        Raises:
            ArtifactError: The file is missing, damaged or of another version, or has a field that a plan does not have.
        """
        return read_json(cls, path, edited=True)


def _check_limits(
    decision: TensorDecision | ResultDecision, limits: tuple[float | None, float | None], *, whole: bool
) -> None:
    low, high = limits
    usable = low is not None and high is not None and low <= 0 <= high and low < high and math.isfinite(high - low)
    if not usable and (whole or limits != (None, None)):
        raise ArtifactError(
            f"The quantization plan has no usable limits for tensor '{decision.tensor}'.",
            found=f"low {low}, high {high}",
            expected="finite numbers on either side of zero, one of which may be zero",
            next_step="make it again with 'linglos-deploy quantize'",
        )


def limits_of(decision: TensorDecision | ResultDecision) -> tuple[float, float]:
    """Return the smallest and the largest value that a placement with zero points keeps of a quantized tensor."""
    if decision.low is not None and decision.high is not None:
        return decision.low, decision.high
    assert isinstance(decision, TensorDecision), decision.tensor
    reach = decision.bound if decision.bound is not None else scale_of(decision, np.float32) * ACTIVATION_LIMIT
    return -reach, reach


def scale_of(decision: TensorDecision, dtype: DTypeLike) -> float:
    """Return the scale of a quantized tensor: the stated one, or what its bound gives in ``dtype``."""
    if decision.scale is not None:
        return decision.scale
    assert decision.bound is not None, decision.tensor
    return float(scales_for(decision.bound, limit=ACTIVATION_LIMIT, dtype=dtype))


def weight_limit(bits: int | None) -> int:
    """Return the largest magnitude of a weight of 8 bits, 127, or 7 bits, 63."""
    assert bits in WEIGHT_BITS
    return int(2 ** (bits - 1)) - 1


def plan_quantization(model: OnnxArtifact, table: CalibrationTable, scheme: QuantScheme) -> QuantPlan:
    """Decide for every convolution and linear layer whether it becomes INT8, and with which scale it reads.

    Args:
        model: A floating-point graph.
        table: What was seen of its activations.
        scheme: What is asked for.

    Raises:
        QuantizationError: The table belongs to another graph, or lacks a tensor.
    """
    from linglos_deploy.calibration.gains import weighings  # they import onnx; reading a plan need not
    from linglos_deploy.quantization.candidates import find_candidates

    if table.graph_digest != model.digest:
        raise QuantizationError(
            f"The calibration table belongs to another graph than '{model.path.name}'.",
            found=f"a table for the graph with SHA-256 {table.graph_digest[:16]}…",
            expected=f"one for the graph with SHA-256 {model.digest[:16]}…",
            next_step="run 'linglos-deploy calibrate' on this graph",
        )
    nodes: list[NodeDecision] = []
    tensors: dict[str, TensorDecision] = {}
    proto = load_onnx(model.path)
    candidates = find_candidates(proto)
    readers = _readers(candidates, scheme)
    weighed = weighings(proto, tuple(table.tensors))
    for candidate in candidates:
        reason = _reason_against(candidate, scheme)
        if candidate.data not in tensors:
            tensors[candidate.data] = _decide_tensor(
                candidate, table.tensors, scheme, readers.get(candidate.data, ()), weighed.get(candidate.data)
            )
        tensor = tensors[candidate.data]
        if reason is None and not tensor.quantize:
            reason = f"its input '{tensor.tensor}' stays in floating point: {tensor.reason}"
        nodes.append(_decide_node(candidate, scheme, reason))
    return QuantPlan(
        graph_digest=model.digest,
        scheme=scheme,
        tensors=tuple(tensors.values()),
        nodes=tuple(nodes),
        results=tuple(_decide_results(candidates, nodes, tensors, table.tensors, scheme)),
        data_digest=table.data_digest,
        preprocess_digest=table.preprocess_digest,
        image_count=table.image_count,
        synthetic=table.synthetic,
    )


def _readers(candidates: tuple[Candidate, ...], scheme: QuantScheme) -> dict[str, tuple[str, ...]]:
    readers: dict[str, tuple[str, ...]] = {}
    for candidate in candidates:
        if _reason_against(candidate, scheme) is None:
            readers[candidate.data] = (*readers.get(candidate.data, ()), candidate.node)
    return readers


def _reason_against(candidate: Candidate, scheme: QuantScheme) -> str | None:
    if reason := scheme.pattern_against(candidate.node):
        return reason
    return candidate.obstacle or (None if scheme.narrow else candidate.narrow)


def _decide_tensor(
    reader: Candidate,
    seen: Mapping[str, TensorStatistics],
    scheme: QuantScheme,
    consumers: tuple[str, ...],
    weighing: Weighing | str | None,
) -> TensorDecision:
    tensor = reader.data
    if not consumers:
        return TensorDecision(tensor, quantize=False, reason="nothing reads it in INT8")
    if tensor not in seen:
        raise QuantizationError(
            f"Tensor '{tensor}' has no range.",
            found=f"a calibration table of {len(seen)} other tensors",
            expected=f"statistics of what {consumers[0]} reads",
            next_step=f"calibrate again with this version, or exclude it with --nodes-to-exclude '{consumers[0]}'",
        )
    statistics = seen[tensor]
    if reason := _unusable(statistics):
        return TensorDecision(tensor, quantize=False, reason=reason)
    chosen = choose_range(statistics, scheme, unweighed=_unweighed(statistics, weighing))
    if chosen.bound <= 0:
        return TensorDecision(
            tensor, quantize=False, reason="its values are too small for a step that float32 can hold"
        )
    low, high = choose_limits(statistics, scheme, chosen.bound)
    decision = TensorDecision(
        tensor,
        quantize=True,
        reason=chosen.reason,
        consumers=consumers,
        bound=chosen.bound,
        low=low,
        high=high,
        method=chosen.method,
        expected_db=chosen.expected_db if math.isfinite(chosen.expected_db) else None,
    )
    return replace(decision, scale=scale_of(decision, scale_type(reader.dtype, scheme.floating)))


def _decide_results(
    candidates: tuple[Candidate, ...],
    nodes: list[NodeDecision],
    tensors: Mapping[str, TensorDecision],
    seen: Mapping[str, TensorStatistics],
    scheme: QuantScheme,
) -> Iterator[ResultDecision]:
    """Decide about what INT8 convolutions leave behind; a tensor that a layer reads has its range already."""
    read = {name: decision for name, decision in tensors.items() if decision.quantize}
    for candidate, node in zip(candidates, nodes, strict=True):
        if not node.quantize or candidate.result is None or candidate.result in read:
            continue
        again = read.get(candidate.becomes or "")
        if again is None:
            yield _decide_result(candidate.result, seen, scheme)
        else:  # one grid for the same values, wherever they are rounded
            low, high = limits_of(again)
            yield ResultDecision(
                candidate.result, True, f"holds the values of '{again.tensor}' and has its range", low, high
            )


def _decide_result(tensor: str, seen: Mapping[str, TensorStatistics], scheme: QuantScheme) -> ResultDecision:
    if tensor not in seen:
        return ResultDecision(tensor, quantize=False, reason="calibration did not look at it; calibrate again")
    statistics = seen[tensor]
    if reason := _unusable(statistics):
        return ResultDecision(tensor, quantize=False, reason=reason)
    chosen = choose_range(statistics, scheme, unweighed="no layer reads it")
    if chosen.bound <= 0:
        return ResultDecision(
            tensor, quantize=False, reason="its values are too small for a step that float32 can hold"
        )
    low, high = choose_limits(statistics, scheme, chosen.bound)
    return ResultDecision(
        tensor,
        quantize=True,
        reason=f"seen from {statistics.minimum:.4g} to {statistics.maximum:.4g}; {chosen.method} keeps {low:.4g} to "
        f"{high:.4g}",
        low=low,
        high=high,
    )


def _unweighed(statistics: TensorStatistics, weighing: Weighing | str | None) -> str | None:
    """Return why the table does not tell how much each channel counts, if it does not."""
    if statistics.groups is not None or weighing is None or isinstance(weighing, str):
        return weighing if isinstance(weighing, str) else None
    return None if len(weighing.groups) == 1 else "the table has no groups of channels; calibrate again"


def _unusable(statistics: TensorStatistics) -> str | None:
    if statistics.non_finite:
        return f"calibration met {statistics.non_finite} NaN or infinite values in it"
    if not statistics.finite:
        return "calibration never reached it"
    if statistics.absolute_maximum == 0:
        return "it was zero on every calibration image"
    return None


def _decide_node(candidate: Candidate, scheme: QuantScheme, reason: str | None) -> NodeDecision:
    return NodeDecision(
        node=candidate.node,
        op_type=candidate.op_type,
        output=candidate.output,
        quantize=reason is None,
        reason=reason or f"INT8 activations times INT{scheme.weight_bits} weights, one scale per output channel",
        data=candidate.data,
        weight=candidate.weight,
        weight_axis=candidate.weight_axis,
        weight_bits=scheme.weight_bits if reason is None else None,
    )
