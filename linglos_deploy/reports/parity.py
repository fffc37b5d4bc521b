"""What a parity check found: how far a candidate's outputs are from a reference's, and whether that is close enough."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Metric(StrEnum):
    """A measure of the difference that a verdict can be about."""

    MISMATCHED_NONFINITE = "mismatched_nonfinite"
    MAX_RELATIVE = "max_relative"
    COSINE = "cosine"
    WORST_COSINE = "worst_cosine"
    SQNR_DB = "sqnr_db"
    TOP1_AGREEMENT = "top1_agreement"


@dataclass(frozen=True, slots=True)
class OutputMetrics:
    """Difference of one output over all samples. Every number is finite, so that it survives JSON.

    NaN equals NaN, and an infinity equals one of the same sign. All other positions where either side is not finite
    are counted in ``mismatched_nonfinite`` and left out of everything else.

    Attributes:
        samples: Rows compared; the first axis of the output counts samples.
        values: Numbers compared.
        max_abs: Largest absolute difference.
        max_relative: ``max_abs`` over the largest magnitude of the reference; at most 1e9.
        mean_abs: Mean absolute difference.
        cosine: Cosine of the angle between both outputs, each as one long vector; 1 if both are zero, 0 if one is.
        worst_cosine: The same for each sample alone; the smallest.
        sqnr_db: Signal to quantization noise, 10 log10(sum reference² / sum difference²), between -300 and 300.
        top1_agreement: Share of samples with the same largest entry, for N x classes outputs; else ``None``. Entries
            of the reference that are within 1e-6 of its largest magnitude count as the same.
        mismatched_nonfinite: Positions where one side is NaN or infinite and the other is not the same.
        nonfinite_reference: Positions where the reference is NaN or infinite.
    """

    samples: int
    values: int
    max_abs: float
    max_relative: float
    mean_abs: float
    cosine: float
    worst_cosine: float
    sqnr_db: float
    top1_agreement: float | None
    mismatched_nonfinite: int
    nonfinite_reference: int


@dataclass(frozen=True, slots=True)
class CriterionResult:
    """One criterion: what was found, and the limit.

    Attributes:
        metric: What it is about.
        found: Its value.
        limit: The largest good value of ``max_relative`` and ``mismatched_nonfinite``, the smallest of the others.
        passed: Whether ``found`` is on the good side of ``limit``, or at it.
    """

    metric: Metric
    found: float
    limit: float
    passed: bool


@dataclass(frozen=True, slots=True)
class WorstSample:
    """A sample that differs most, to look at.

    Attributes:
        id: Its name, such as a path, or its position if it has none.
        cosine: Between both outputs for this sample.
        max_abs: Largest absolute difference.
    """

    id: str
    cosine: float
    max_abs: float


@dataclass(frozen=True, slots=True)
class OutputParity:
    """One output: its metrics, every criterion, and the samples with the smallest cosines, worst first."""

    output: str
    metrics: OutputMetrics
    criteria: tuple[CriterionResult, ...]
    worst: tuple[WorstSample, ...]

    @property
    def passed(self) -> bool:
        """Whether every criterion holds."""
        return all(result.passed for result in self.criteria)


@dataclass(frozen=True, slots=True)
class ParityReport:
    """The verdict on one candidate.

    Attributes:
        reference: What it was compared with, such as ``"PyTorch"``.
        candidate: What was compared, such as ``"model.int8.onnx on onnxruntime"``.
        precision: Whose criteria were used, such as ``"int8"``.
        samples: How many samples were compared.
        outputs: One entry per output, in graph order.
        warnings: What the reader should know besides, such as an INT8 mode that overflows on this CPU.
        passed: Whether every criterion of every output holds.
    """

    reference: str
    candidate: str
    precision: str
    samples: int
    outputs: tuple[OutputParity, ...]
    warnings: tuple[str, ...]
    passed: bool


@dataclass(frozen=True, slots=True)
class LayerDifference:
    """One tensor that both graphs have.

    Attributes:
        tensor: Its name in both.
        node: The node that makes it in the candidate.
        op_type: That node's operator.
        metrics: The difference.
    """

    tensor: str
    node: str
    op_type: str
    metrics: OutputMetrics


@dataclass(frozen=True, slots=True)
class LayerReport:
    """Where a candidate starts to deviate from its reference.

    Attributes:
        reference: File name of the reference graph.
        candidate: File name of the candidate graph.
        samples: How many samples were run.
        layers: Every tensor that both have, in graph order of the candidate.
        first_beyond: The first tensor whose SQNR is below ``limit_db``, if there is one.
        limit_db: That limit.
    """

    reference: str
    candidate: str
    samples: int
    layers: tuple[LayerDifference, ...]
    first_beyond: str | None
    limit_db: float


@dataclass(frozen=True, slots=True)
class Int8Comparison:
    """What the fast INT8 kernels of this CPU do to one graph.

    Attributes:
        cpu: Name of the CPU.
        exact_cosine: Worst cosine over the outputs between the reference and the exact mode.
        fast_cosine: The same for the fast mode.
        warning: What the user must know before shipping, or ``None`` if both modes agree.
    """

    cpu: str
    exact_cosine: float
    fast_cosine: float
    warning: str | None


@dataclass(frozen=True, slots=True)
class ParityOutcome:
    """The answer of ``linglos-deploy parity``.

    Attributes:
        reports: One verdict per graph.
        layers: Where graphs start to deviate, if that was asked for.
        passed: Whether every verdict is good.
    """

    reports: tuple[ParityReport, ...]
    layers: tuple[LayerReport, ...]
    passed: bool
