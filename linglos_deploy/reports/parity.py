"""What a parity check found: how far a candidate's outputs are from a reference's, and whether that is close enough."""

from __future__ import annotations

from dataclasses import dataclass, replace

from linglos_deploy.compat import StrEnum


class Metric(StrEnum):
    """A measure of the difference that a verdict can be about."""

    MISMATCHED_NONFINITE = "mismatched_nonfinite"
    MAX_RELATIVE = "max_relative"
    COSINE = "cosine"
    WORST_COSINE = "worst_cosine"
    SQNR_DB = "sqnr_db"
    TOP1_AGREEMENT = "top1_agreement"
    VARIATION_DB = "variation_db"
    GROUP_DB = "group_db"
    MAX_ABS = "max_abs"
    MEAN_ABS = "mean_abs"
    MEAN_RELATIVE = "mean_relative"
    KL_DIVERGENCE = "kl_divergence"
    TOP5_AGREEMENT = "top5_agreement"

    @property
    def at_most(self) -> bool:
        """Whether a good value is a small one."""
        return self in _SMALL_IS_GOOD


_SMALL_IS_GOOD = frozenset(
    {
        Metric.MISMATCHED_NONFINITE,
        Metric.MAX_RELATIVE,
        Metric.MAX_ABS,
        Metric.MEAN_ABS,
        Metric.MEAN_RELATIVE,
        Metric.KL_DIVERGENCE,
    }
)

ERROR_QUANTILES = (0.5, 0.9, 0.99, 0.999)
"""Shares of all values whose absolute error is reported."""


@dataclass(frozen=True, slots=True)
class ChannelGroup:
    """Channels of one order of magnitude, judged alone so that larger ones cannot hide them.

    Attributes:
        channels: Their indices.
        rms: Root of the mean square of the reference over them.
        sqnr_db: SQNR around the mean of each channel.
        mean_db: SQNR of the channels as they are, with their means.
    """

    channels: tuple[int, ...]
    rms: float
    sqnr_db: float
    mean_db: float = 0.0


@dataclass(frozen=True, slots=True)
class ChannelNoise:
    """A channel and its SQNR around its mean."""

    channel: int
    sqnr_db: float


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
        mean_relative: Mean absolute difference over the mean magnitude of the reference; at most 1e9.
        variation_db: SQNR around the mean: the reference's variance, of each channel over samples and positions, to the
            noise. ``None`` where fewer than four values are left to take a mean of.
        sample_db_mean: Mean over the samples of each sample's own SQNR, in which 150 dB count as equal.
        sample_db_std: Standard deviation of the same.
        top5_agreement: Share of samples whose best class is among the candidate's best five, for N x classes outputs
            of more than five classes; else ``None``.
        kl_divergence: Mean over samples of the divergence between the softmax of both, in nats, for N x classes
            outputs; else ``None``.
        abs_quantiles: Absolute errors that the shares :data:`ERROR_QUANTILES` of all values do not exceed, to within
            5 %.
        groups: Channels by order of magnitude, where an output has channels of several.
        worst_channels: The channels with the lowest SQNR around their mean, worst first.
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
    mean_relative: float = 0.0
    variation_db: float | None = None
    sample_db_mean: float = 0.0
    sample_db_std: float = 0.0
    top5_agreement: float | None = None
    kl_divergence: float | None = None
    abs_quantiles: tuple[float, ...] = ()
    groups: tuple[ChannelGroup, ...] = ()
    worst_channels: tuple[ChannelNoise, ...] = ()


@dataclass(frozen=True, slots=True)
class CriterionResult:
    """One criterion: what was found, and the limit.

    Attributes:
        metric: What it is about.
        found: Its value.
        limit: The largest good value where small is good (:attr:`Metric.at_most`), the smallest of the others.
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
class Flip:
    """A sample whose best class is another one.

    Attributes:
        id: Its name.
        reference: Best class of the reference.
        candidate: Best class of the candidate.
        margin: How much higher the reference rates its own class than the candidate's; a small one is a near tie.
        candidate_margin: How much higher the candidate rates its own class than the reference's.
        picture: What the model was given, small, as a data URI of a PNG file; empty if it was no image.
    """

    id: str
    reference: int
    candidate: int
    margin: float
    candidate_margin: float = 0.0
    picture: str = ""


@dataclass(frozen=True, slots=True)
class ClassAgreement:
    """What became of the samples whose best class is one of the reference's.

    Attributes:
        index: The class.
        samples: Samples that the reference puts there.
        agreed: Those that the candidate puts there too.
        mostly: The class to which the candidate puts most of the others; ``None`` if there are none.
    """

    index: int
    samples: int
    agreed: int
    mostly: int | None


@dataclass(frozen=True, slots=True)
class OutputParity:
    """One output on one set of images.

    Attributes:
        output: Its name.
        metrics: How far it is off.
        criteria: Every criterion.
        worst: The samples with the smallest cosines, worst first.
        images: Which images these were, such as ``"golden"``; empty if there is one set only.
        flips: Samples whose best class is another one, the clearest first.
        inputs: Digest of all inputs in order, which tells whether two checks saw the same images; empty if unknown.
        classes: The best class, class by class, for outputs of N x classes.
    """

    output: str
    metrics: OutputMetrics
    criteria: tuple[CriterionResult, ...]
    worst: tuple[WorstSample, ...]
    images: str = ""
    flips: tuple[Flip, ...] = ()
    inputs: str = ""
    classes: tuple[ClassAgreement, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every criterion holds."""
        return all(result.passed for result in self.criteria)


@dataclass(frozen=True, slots=True)
class StructuralDifference:
    """Something that a derived graph has and its parent does not allow.

    Attributes:
        node: The candidate's node that it sits at.
        layer: The parent's node that it belongs to: the reader of a pair or weight, or the node itself.
        what: What differs.
        expected: What the parent, the arithmetic or the plan asks for.
        found: What the candidate has.
    """

    node: str
    layer: str
    what: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class StructuralProof:
    """Whether a derived graph is its parent but for what its precision allows.

    Attributes:
        parent: File name of the float32 graph.
        candidate: File name of the derived graph.
        nodes: How many nodes were found to be the same.
        constants: How many constants were compared, to the bit or as 16 bits round them.
        weights: How many times a dequantized weight is read.
        pairs: How many tensors are rounded by a Q/DQ pair.
        against_plan: Whether scales, widths, bounds and consumers were held against the quantization plan.
        differences: What is not as it should be, in graph order.
    """

    parent: str
    candidate: str
    nodes: int
    constants: int
    weights: int
    pairs: int
    against_plan: bool
    differences: tuple[StructuralDifference, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was checked besides the outputs' criteria.

    Attributes:
        name: What was checked.
        passed: Whether it holds; ``None`` if it could not be checked here.
        found: What was found.
        expected: What would have been right; the command that checks it, where it could not be checked.
        node: The node of the candidate that it is about, if it is about one.
        undecided: Whether the verdict hangs on it, although nothing at hand can tell; ``passed`` is ``None`` then.
    """

    name: str
    passed: bool | None
    found: str
    expected: str
    node: str | None = None
    undecided: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """A tensor that was looked at, and its SQNR in dB."""

    tensor: str
    sqnr_db: float


@dataclass(frozen=True, slots=True)
class ParityReport:
    """The verdict on one candidate.

    Attributes:
        reference: What it was compared with, such as ``"PyTorch"``.
        candidate: What was compared, such as ``"model.int8.onnx on onnxruntime"``.
        precision: Whose criteria were used, such as ``"int8"``.
        samples: How many samples were compared.
        outputs: One entry per set of images and output, in graph order.
        warnings: What the reader should know besides, such as an INT8 mode that overflows on this CPU.
        passed: Whether every criterion of every output holds, the proof does, and no finding speaks against it or
            leaves it open.
        proof: Whether a derived graph is its parent; ``None`` where there is no parent to compare with.
        findings: What else was checked: places in a batch, inner tensors, what was reached before.
        labels: Names of the classes, in the order of the outputs; empty if unknown.
        growth: SQNR of inner tensors to those of the parent, in graph order; empty where they were not compared.
    """

    reference: str
    candidate: str
    precision: str
    samples: int
    outputs: tuple[OutputParity, ...]
    warnings: tuple[str, ...]
    passed: bool
    proof: StructuralProof | None = None
    findings: tuple[Finding, ...] = ()
    labels: tuple[str, ...] = ()
    growth: tuple[Probe, ...] = ()

    def with_findings(self, *more: Finding) -> ParityReport:
        """Return the report with what else was found, and the verdict that follows."""
        passed = self.passed and all(finding.passed is not False and not finding.undecided for finding in more)
        return replace(self, findings=(*self.findings, *more), passed=passed)

    @property
    def undecided(self) -> bool:
        """Whether nothing fails, and something that the verdict hangs on cannot be told."""
        holds = self.proof is None or self.proof.passed
        holds = holds and all(output.passed for output in self.outputs)
        holds = holds and all(finding.passed is not False for finding in self.findings)
        return holds and any(finding.undecided for finding in self.findings)


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
class Misshapen:
    """A tensor that both graphs have, in two shapes.

    Attributes:
        tensor: Its name in both.
        node: The node that makes it in the candidate.
        expected: Its shape in the reference.
        found: Its shape in the candidate.
    """

    tensor: str
    node: str
    expected: tuple[int, ...]
    found: tuple[int, ...]


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
        misshapen: Tensors of one name and two shapes, in graph order.
    """

    reference: str
    candidate: str
    samples: int
    layers: tuple[LayerDifference, ...]
    first_beyond: str | None
    limit_db: float
    misshapen: tuple[Misshapen, ...] = ()


@dataclass(frozen=True, slots=True)
class Location:
    """Where a graph first leaves what it should compute.

    Attributes:
        reference: What it was compared with.
        candidate: File name of the graph.
        tensors: How many tensors both have.
        runs: How many times a graph was run.
        limit_db: SQNR below which a tensor has left its reference.
        tensor: The first such tensor in graph order; ``None`` if there is none.
        node: The candidate's node that makes it.
        layer: The reference's node that makes it, or the one that the candidate lacks on the way to it.
        module: The PyTorch module of that layer.
        sqnr_db: SQNR of the tensor.
        feeds: What the node reads; all of it is within the limit, or constant.
        probes: Every tensor that was looked at, in graph order.
    """

    reference: str
    candidate: str
    tensors: int
    runs: int
    limit_db: float
    tensor: str | None
    node: str | None
    layer: str | None
    module: str | None
    sqnr_db: float | None
    feeds: tuple[str, ...]
    probes: tuple[Probe, ...]


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
        locations: Where each graph first leaves its reference, if that was asked for.
    """

    reports: tuple[ParityReport, ...]
    layers: tuple[LayerReport, ...]
    passed: bool
    locations: tuple[Location, ...] = ()

    @property
    def undecided(self) -> bool:
        """Whether no verdict is bad, and one or more cannot be told."""
        open_ones = [report for report in self.reports if not report.passed]
        return bool(open_ones) and all(report.undecided for report in open_ones)
