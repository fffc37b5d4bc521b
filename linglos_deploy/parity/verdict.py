"""Is a candidate close enough to its reference? Criteria, and the report that answers them one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from linglos_deploy.backends.base import Runner
from linglos_deploy.choices import Precision
from linglos_deploy.errors import DataError, UsageError
from linglos_deploy.images.thumbnails import thumbnail
from linglos_deploy.parity.classes import Picture
from linglos_deploy.parity.metrics import Difference
from linglos_deploy.parity.reached import ENOUGH_DB, digest_of
from linglos_deploy.parity.recording import Ask, Recording, ask_here
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.reports.parity import CriterionResult, Finding, Metric, OutputMetrics, OutputParity, ParityReport
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
        variation_db: Smallest SQNR around the mean.
        group_db: Smallest SQNR around the mean of channels of one order of magnitude.
        max_abs: Largest absolute difference.
        mean_abs: Largest mean absolute difference.
        mean_relative: Largest mean difference over the reference's mean magnitude.
        kl_divergence: Largest mean divergence of the class distributions, in nats.
        top5_agreement: Smallest share of samples whose best class is among the candidate's best five.
    """

    max_relative: float | None = None
    cosine: float | None = None
    worst_cosine: float | None = None
    sqnr_db: float | None = None
    top1_agreement: float | None = None
    variation_db: float | None = None
    group_db: float | None = None
    max_abs: float | None = None
    mean_abs: float | None = None
    mean_relative: float | None = None
    kl_divergence: float | None = None
    top5_agreement: float | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise UsageError(f"{name} is not a limit.", found=str(value), expected=f"{low:g} to {high:g}")


_RANGES = {
    "max_relative": (0.0, np.inf),
    "cosine": (-1.0, 1.0),
    "worst_cosine": (-1.0, 1.0),
    "sqnr_db": (-np.inf, np.inf),
    "top1_agreement": (0.0, 1.0),
    "variation_db": (-np.inf, np.inf),
    "group_db": (-np.inf, np.inf),
    "max_abs": (0.0, np.inf),
    "mean_abs": (0.0, np.inf),
    "mean_relative": (0.0, np.inf),
    "kl_divergence": (0.0, np.inf),
    "top5_agreement": (0.0, 1.0),
}

_DEFAULTS = {
    # The same function: only the order of sums differs. Unit roundoff 6e-8; this family differs by 1e-6 to 1e-5.
    Precision.FP32: Limits(
        max_relative=1e-4,
        cosine=0.999999,
        worst_cosine=0.99999,
        sqnr_db=100,
        top1_agreement=0.98,
        variation_db=85,
        group_db=85,
    ),
    # Unit roundoff 5e-4 in every layer: about 60 dB, less what a hundred layers add up to.
    Precision.FP16: Limits(
        max_relative=2e-2,
        cosine=0.9999,
        worst_cosine=0.999,
        sqnr_db=40,
        top1_agreement=0.97,
        variation_db=30,
        group_db=30,
    ),
    # Three bits less than float16: 18 dB less.
    Precision.BF16: Limits(
        cosine=0.996, worst_cosine=0.99, sqnr_db=22, top1_agreement=0.95, variation_db=12, group_db=12
    ),
    # Eight bits give an activation 30 to 45 dB, and noise adds up over the layers. A defect (a wrong axis, a saturating
    # kernel, a clipped range) leaves cosines far below these. The best class changes wherever the two best are closer
    # than the noise, on random weights often; what that costs in accuracy is a question of its own, with labels.
    Precision.INT8: Limits(cosine=0.98, worst_cosine=0.90, sqnr_db=13, top1_agreement=0.9, variation_db=6, group_db=10),
}
_INDICES = {
    # Of a map's pixels, those whose two best classes are closer than the noise of the precision take another one.
    Precision.FP32: 0.999,
    Precision.FP16: 0.99,
    Precision.BF16: 0.95,
    Precision.INT8: 0.9,
}
FOUND = "found"
"""Part of a view that says which rows have a partner."""

View = Callable[
    [npt.NDArray[np.generic], npt.NDArray[np.generic]], Mapping[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]]
]

_SURE_DB = 15.0
"""How far below the noise of PyTorch's own float32 a float32 graph may lie: sums in another order, 30 times as many."""
_STRICT_DB = 30.0
"""How far below that noise the limit lies at most where float32 holds more than the default asks for. 22 dB were seen:
a rewritten attention rounds elsewhere than its module, and odd images make more of it than the measured ones."""
_LEAST_FLOAT32_DB = 25.0
_ROUNDED_DB = {Precision.FP32: ENOUGH_DB, Precision.FP16: 50.0, Precision.BF16: 32.0}
"""What the last bit of an output's own element type leaves of it, less 15 dB for what comes before: an output that
varies by a thousandth of itself cannot hold its variation in 16 bits. INT8 graphs give float32, or 16 bits beside."""
AROUND_MEANS = ("variation_db", "group_db")
"""Limits on an output's variation."""


@dataclass(frozen=True, slots=True)
class Criteria:
    """What a candidate must hold.

    Attributes:
        precision: What the limits are meant for; shown in the report.
        limits: Limits on every output.
        outputs: Limits on single outputs, instead.
        indices: Outputs whose numbers are class indices.
        views: How the reference's and the candidate's output are made comparable, for outputs whose rows have no fixed
            order: each gives pairs of arrays, by part. Limits on ``output.part`` are those of the part.
        asked: Limits that somebody asked for, which are held as they stand; others yield to what rounding leaves of an
            output's variation.
    """

    precision: Precision
    limits: Limits
    outputs: Mapping[str, Limits] = field(default_factory=dict)
    indices: frozenset[str] = frozenset()
    views: Mapping[str, View] = field(default_factory=dict)
    asked: frozenset[str] = frozenset()

    @classmethod
    def for_precision(
        cls,
        precision: Precision,
        *,
        trained: bool = True,
        noise_db: Mapping[str, float] | None = None,
        samples: int | None = None,
    ) -> Criteria:
        """Return the defaults; the comments at ``_DEFAULTS`` and docs/parity.md give their reasons.

        Args:
            precision: Of the candidate.
            trained: Whether the weights are. The best class of random weights is a matter of chance, closer to the
                second best than any rounding, and their answers hardly depend on the image; so neither is judged.
            noise_db: SQNR of the reference's own float32 arithmetic, per output, where it was measured. An
                ill-conditioned network amplifies rounding; a graph cannot be held to more than its reference holds.
            samples: How many there are, if known. One whose best class changes is no rate, so it alone never fails; a
                limit that somebody asked for is held as it was asked.
        """
        limits = _DEFAULTS[Precision.INT8 if precision.is_int8 else precision]
        if not trained:
            limits = replace(limits, top1_agreement=None, variation_db=None, group_db=None)
            if precision.is_int8:  # one small answer of few classes may be all noise
                limits = replace(limits, worst_cosine=None)
        if samples is not None and limits.top1_agreement is not None:
            limits = replace(limits, top1_agreement=min(limits.top1_agreement, (samples - 1) / samples))
        outputs = {}
        if precision is Precision.FP32:
            outputs = {output: allow_noise(limits, noise) for output, noise in (noise_db or {}).items()}
        return cls(precision=precision, limits=limits, outputs=outputs)

    def with_indices(self, outputs: Iterable[str], *, trained: bool) -> Criteria:
        """Return the same, with limits on the share of equal numbers for outputs that are class indices.

        Of random weights only a float32 graph is held to one: everywhere else the best class is a matter of chance.
        """
        names = frozenset(outputs)
        judged = trained or self.precision is Precision.FP32
        share = _INDICES[Precision.INT8 if self.precision.is_int8 else self.precision] if judged else None
        own = dict.fromkeys(names, Limits(top1_agreement=share))
        return replace(self, outputs={**self.outputs, **own}, indices=names)

    def with_views(self, views: Mapping[str, View], *, trained: bool) -> Criteria:
        """Return the same, with outputs compared part by part; the part ``found`` is 1 where a row has a partner.

        Which rows an answer holds is a matter of chance for random weights, except in the same arithmetic.
        """
        judged = trained or self.precision is Precision.FP32
        share = _INDICES[Precision.INT8 if self.precision.is_int8 else self.precision] if judged else None
        own = {f"{output}.{FOUND}": Limits(top1_agreement=share) for output in views}
        indices = self.indices | own.keys()
        return replace(self, outputs={**self.outputs, **own}, indices=indices, views={**self.views, **views})

    def parts(
        self, output: str, wanted: npt.NDArray[np.generic], found: npt.NDArray[np.generic]
    ) -> dict[str, tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]]:
        """Return what is compared of one output, by the name under which it is judged."""
        if output not in self.views:
            return {output: (wanted, found)}
        return {f"{output}.{part}": pair for part, pair in self.views[output](wanted, found).items()}

    def of(self, output: str) -> Limits:
        """Return the limits on one output."""
        return self.outputs.get(output, self.limits)


def allow_noise(limits: Limits, noise_db: float) -> Limits:
    """Return float32's limits as the reference's noise allows: laxer where they must be, stricter where they can."""
    assert limits.sqnr_db is not None
    reachable = max(noise_db - _SURE_DB, _LEAST_FLOAT32_DB)
    if reachable >= limits.sqnr_db:
        return replace(limits, sqnr_db=max(limits.sqnr_db, min(noise_db - _STRICT_DB, ENOUGH_DB)))
    lost = limits.sqnr_db - reachable
    return replace(
        limits,
        sqnr_db=reachable,
        max_relative=None if limits.max_relative is None else limits.max_relative * 10 ** (lost / 20),
        cosine=None if limits.cosine is None else min(limits.cosine, 1 - 10 ** (-reachable / 10)),
        worst_cosine=None if limits.worst_cosine is None else min(limits.worst_cosine, 1 - 10 ** (1 - reachable / 10)),
        variation_db=None if limits.variation_db is None else limits.variation_db - lost,
        group_db=None if limits.group_db is None else limits.group_db - lost,
    )


def check_parity(
    reference: Recording,
    candidate: Runner,
    criteria: Criteria,
    *,
    batches: Iterable[Batch],
    name: str = "candidate",
    images: str = "",
    same_inputs: bool = True,
    warnings: tuple[str, ...] = (),
    ask: Ask = ask_here,
    progress: Progress = SILENT,
) -> ParityReport:
    """Run a candidate on the reference's inputs and judge every output.

    Args:
        reference: What the outputs should be.
        candidate: The model to judge.
        criteria: The limits.
        batches: The inputs of the reference, in its order; the batches may be cut differently.
        name: What the report calls the candidate.
        images: What the report calls these images.
        same_inputs: Whether each input must be the recorded one, to the bit. A candidate that takes raw pixels, where
            the reference took preprocessed images, has other inputs by design.
        warnings: What the report's reader should know besides.
        ask: How the candidate's answers come about.
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
    differences: dict[str, dict[str, Difference]] = {output: {} for output in reference.outputs}
    misshapen: dict[str, Finding] = {}
    rows = _Rows(reference)
    with progress.stage(f"Checking {name}", reference.samples) as advance:
        for answer in ask(candidate, batches):
            expected = rows.take(len(answer.inputs))
            if same_inputs and answer.inputs != expected.inputs:
                raise DataError(
                    f"{name} was given other inputs than the reference.",
                    found=f"other pixels or preprocessing among the {expected.count} samples up to {rows.taken}",
                    expected=f"the inputs that '{reference.path}' was recorded with",
                    next_step="record the reference again",
                )
            found = answer.outputs()
            for output, parts in differences.items():
                shapes = expected.outputs[output].shape, np.shape(found[output])
                if shapes[0] != shapes[1]:
                    misshapen.setdefault(output, _misshapen(output, images, *shapes))
                    continue
                for part, pair in criteria.parts(output, expected.outputs[output], found[output]).items():
                    difference = parts.setdefault(part, Difference(indices=part in criteria.indices))
                    difference.update(*pair, expected.ids, _pictures(answer.batch))
            advance(expected.count)
    if rows.taken != reference.samples:
        raise DataError(
            f"{name} was given fewer samples than the reference.",
            found=str(rows.taken),
            expected=str(reference.samples),
        )
    inputs = digest_of(reference)
    outputs = tuple(
        _judge(part, difference, criteria, images, inputs)
        for output, parts in differences.items()
        if output not in misshapen
        for part, difference in parts.items()
    )
    return ParityReport(
        reference=reference.source or reference.path.name,
        candidate=name,
        precision=criteria.precision,
        samples=rows.taken,
        outputs=outputs,
        warnings=warnings,
        passed=all(output.passed for output in outputs) and not misshapen,
        findings=tuple(misshapen.values()),
    )


def judge(metrics: OutputMetrics, limits: Limits) -> tuple[CriterionResult, ...]:
    """Hold metrics against limits, one result per limit that applies."""
    strangers = metrics.mismatched_nonfinite
    results = [CriterionResult(Metric.MISMATCHED_NONFINITE, strangers, 0, passed=strangers == 0)]
    for metric, found in _measured(metrics):
        limit = getattr(limits, metric)
        if found is not None and limit is not None:
            passed = found <= limit if metric.at_most else found >= limit
            results.append(CriterionResult(metric, found, limit, passed=passed))
    return tuple(results)


def within_rounding(limits: Limits, metrics: OutputMetrics, criteria: Criteria) -> Limits:
    """Return limits on variation as far as the output's own rounding lets it vary; those that were asked for stay."""
    held = _ROUNDED_DB[criteria.precision.floating]
    variation, group = (None if name in criteria.asked else getattr(limits, name) for name in AROUND_MEANS)
    if variation is not None and metrics.variation_db is not None:
        limits = replace(limits, variation_db=min(variation, held - (metrics.sqnr_db - metrics.variation_db)))
    if group is not None and metrics.groups:
        room = min(one.sqnr_db - min(group, held - (one.mean_db - one.sqnr_db)) for one in metrics.groups)
        limits = replace(limits, group_db=min(one.sqnr_db for one in metrics.groups) - room)
    return limits


def _misshapen(output: str, images: str, wanted: tuple[int, ...], found: tuple[int, ...]) -> Finding:
    where = f" on {images} images" if images else ""
    return Finding(f"{output}{where} has the reference's shape", False, str(list(found)), str(list(wanted)))


def _measured(metrics: OutputMetrics) -> Iterator[tuple[Metric, float | None]]:
    for metric in Metric:
        if metric is Metric.GROUP_DB:
            yield metric, min((group.sqnr_db for group in metrics.groups), default=None)
        elif metric is not Metric.MISMATCHED_NONFINITE:
            yield metric, getattr(metrics, metric)


def _judge(output: str, difference: Difference, criteria: Criteria, images: str, inputs: str) -> OutputParity:
    metrics = difference.metrics()
    limits = within_rounding(criteria.of(output), metrics, criteria)
    return OutputParity(
        output=output,
        metrics=metrics,
        criteria=judge(metrics, limits),
        worst=difference.worst(),
        images=images,
        flips=difference.flips(),
        classes=difference.by_class(),
        inputs=inputs,
    )


def _pictures(batch: Callable[[], Batch]) -> Picture:
    """Return what draws a row of the first input that is images; others are not drawn."""

    def draw(row: int) -> str:
        arrays = [np.asarray(array) for array in batch().values() if np.ndim(array) == 4]
        return thumbnail(arrays[0][row]) if arrays else ""

    return draw


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
