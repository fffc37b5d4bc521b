"""Is a candidate close enough to its reference? Criteria, and the report that answers them one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from linglos_deploy.backends.base import Runner
from linglos_deploy.choices import Precision
from linglos_deploy.errors import DataError, UsageError
from linglos_deploy.parity.metrics import Difference
from linglos_deploy.parity.recording import Recording, sample_digests
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.reports.parity import CriterionResult, Metric, OutputMetrics, OutputParity, ParityReport
from linglos_deploy.signature import Batch


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on one output; ``None`` asks for nothing. NaN and infinities must always agree.

    Attributes:
        max_relative: Largest difference over the reference's largest magnitude.
        cosine: Smallest cosine over all samples.
        worst_cosine: Smallest cosine of any one sample.
        sqnr_db: Smallest signal to quantization noise ratio.
        top1_agreement: Smallest share of samples with the same largest entry.
    """

    max_relative: float | None = None
    cosine: float | None = None
    worst_cosine: float | None = None
    sqnr_db: float | None = None
    top1_agreement: float | None = None

    def __post_init__(self) -> None:
        for name, low, high in (
            ("max_relative", 0.0, np.inf),
            ("cosine", -1.0, 1.0),
            ("worst_cosine", -1.0, 1.0),
            ("sqnr_db", -np.inf, np.inf),
            ("top1_agreement", 0.0, 1.0),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise UsageError(f"{name} is not a limit.", found=str(value), expected=f"{low:g} to {high:g}")


_DEFAULTS = {
    # The same function: only the order of sums differs. Unit roundoff 6e-8; this family differs by 1e-6 to 1e-5.
    Precision.FP32: Limits(max_relative=1e-4, cosine=0.999999, worst_cosine=0.99999, sqnr_db=80, top1_agreement=0.98),
    # Unit roundoff 5e-4 in every layer: about 60 dB, less what a hundred layers add up to.
    Precision.FP16: Limits(max_relative=2e-2, cosine=0.9999, worst_cosine=0.999, sqnr_db=40, top1_agreement=0.97),
    # Three bits less than float16: 18 dB less.
    Precision.BF16: Limits(cosine=0.999, worst_cosine=0.99, sqnr_db=22, top1_agreement=0.95),
    # Eight bits give an activation 30 to 45 dB, and noise adds up over the layers. A defect (a wrong axis, a saturating
    # kernel, a clipped range) leaves cosines far below these. The best class changes wherever the two best are closer
    # than the noise, on random weights often; what that costs in accuracy is a question of its own, with labels.
    Precision.INT8: Limits(cosine=0.98, worst_cosine=0.90, sqnr_db=13, top1_agreement=0.9),
}


@dataclass(frozen=True, slots=True)
class Criteria:
    """What a candidate must hold.

    Attributes:
        precision: What the limits are meant for; shown in the report.
        limits: Limits on every output.
        outputs: Limits on single outputs, instead.
    """

    precision: Precision
    limits: Limits
    outputs: Mapping[str, Limits] = field(default_factory=dict)

    @classmethod
    def for_precision(cls, precision: Precision, *, trained: bool = True) -> Criteria:
        """Return the defaults; the comments at ``_DEFAULTS`` and docs/quantization.md give their reasons.

        Args:
            precision: Of the candidate.
            trained: Whether the weights are. The best class of random weights is a matter of chance, closer to the
                second best than any rounding, so its agreement is not judged.
        """
        limits = _DEFAULTS[Precision.INT8 if precision.is_int8 else precision]
        return cls(precision=precision, limits=limits if trained else replace(limits, top1_agreement=None))

    def of(self, output: str) -> Limits:
        """Return the limits on one output."""
        return self.outputs.get(output, self.limits)


def check_parity(
    reference: Recording,
    candidate: Runner,
    criteria: Criteria,
    *,
    batches: Iterable[Batch],
    name: str = "candidate",
    same_inputs: bool = True,
    warnings: tuple[str, ...] = (),
    progress: Progress = SILENT,
) -> ParityReport:
    """Run a candidate on the reference's inputs and judge every output.

    Args:
        reference: What the outputs should be.
        candidate: The model to judge.
        criteria: The limits.
        batches: The inputs of the reference, in its order; the batches may be cut differently.
        name: What the report calls the candidate.
        same_inputs: Whether each input must be the recorded one, to the bit. A candidate that takes raw pixels, where
            the reference took preprocessed images, has other inputs by design.
        warnings: What the report's reader should know besides.
        progress: Told of every batch.

    Raises:
        DataError: The inputs are not the reference's, or the candidate lacks an output.
    """
    missing = set(reference.outputs) - set(candidate.signature.output_names)
    if missing:
        raise DataError(
            f"{name} lacks outputs of the reference.",
            found=", ".join(candidate.signature.output_names),
            expected=", ".join(reference.outputs),
        )
    differences = {output: Difference() for output in reference.outputs}
    rows = _Rows(reference)
    with progress.stage(f"Checking {name}", reference.samples) as advance:
        for batch in batches:
            expected = rows.take(len(next(iter(batch.values()))))
            if same_inputs and sample_digests(batch) != expected.inputs:
                raise DataError(
                    f"{name} was given other inputs than the reference.",
                    found=f"other pixels or preprocessing among the {expected.count} samples up to {rows.taken}",
                    expected=f"the inputs that '{reference.path}' was recorded with",
                    next_step="record the reference again",
                )
            found = candidate.run(batch)
            for output, difference in differences.items():
                difference.update(expected.outputs[output], found[output], expected.ids)
            advance(expected.count)
    if rows.taken != reference.samples:
        raise DataError(
            f"{name} was given fewer samples than the reference.",
            found=str(rows.taken),
            expected=str(reference.samples),
        )
    outputs = tuple(_judge(output, differences[output], criteria.of(output)) for output in reference.outputs)
    return ParityReport(
        reference=reference.source or reference.path.name,
        candidate=name,
        precision=criteria.precision,
        samples=rows.taken,
        outputs=outputs,
        warnings=warnings,
        passed=all(output.passed for output in outputs),
    )


def judge(metrics: OutputMetrics, limits: Limits) -> tuple[CriterionResult, ...]:
    """Hold metrics against limits, one result per limit that applies."""
    results = [_at_most(Metric.MISMATCHED_NONFINITE, metrics.mismatched_nonfinite, 0)]
    if limits.max_relative is not None:
        results.append(_at_most(Metric.MAX_RELATIVE, metrics.max_relative, limits.max_relative))
    for metric, found, limit in (
        (Metric.COSINE, metrics.cosine, limits.cosine),
        (Metric.WORST_COSINE, metrics.worst_cosine, limits.worst_cosine),
        (Metric.SQNR_DB, metrics.sqnr_db, limits.sqnr_db),
        (Metric.TOP1_AGREEMENT, metrics.top1_agreement, limits.top1_agreement),
    ):
        if found is not None and limit is not None:
            results.append(CriterionResult(metric, found, limit, passed=found >= limit))
    return tuple(results)


def _at_most(metric: Metric, found: float, limit: float) -> CriterionResult:
    return CriterionResult(metric, found, limit, passed=found <= limit)


def _judge(output: str, difference: Difference, limits: Limits) -> OutputParity:
    metrics = difference.metrics()
    return OutputParity(output=output, metrics=metrics, criteria=judge(metrics, limits), worst=difference.worst())


@dataclass(frozen=True, slots=True)
class _Taken:
    count: int
    inputs: tuple[str, ...]
    ids: tuple[str, ...]
    outputs: Mapping[str, npt.NDArray[np.generic]]


class _Rows:
    """Hands out a recording's samples in groups of any size."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._rows = self._each()
        self.taken = 0

    def take(self, count: int) -> _Taken:
        """Return the next ``count`` samples."""
        rows = list(islice(self._rows, count))
        if len(rows) < count:
            raise DataError(
                "There are more samples than the reference has.",
                found=f"at least {self.taken + count}",
                expected=str(self._recording.samples),
            )
        self.taken += count
        return _Taken(
            count=count,
            inputs=tuple(digest for digest, _, _ in rows),
            ids=tuple(name for _, name, _ in rows),
            outputs={name: np.stack([outputs[name] for _, _, outputs in rows]) for name in self._recording.outputs},
        )

    def _each(self) -> Iterator[tuple[str, str, Mapping[str, npt.NDArray[np.generic]]]]:
        position = 0
        for shard, outputs in self._recording.batches():
            for row, digest in enumerate(shard.inputs):
                name = shard.ids[row] if shard.ids else str(position)
                yield digest, name, {key: array[row] for key, array in outputs.items()}
                position += 1
