"""Looks at the images before anything is collected: what is wrong with them shows nowhere else, except in the accuracy.

Every check gives findings with counts; none of them changes the data. The images must have been decoded once
(:meth:`~linglos_deploy.images.dataset.ImageDataset.verified`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from linglos_deploy.compat import StrEnum
from linglos_deploy.errors import DataError
from linglos_deploy.images.dataset import ImageDataset
from linglos_deploy.images.preprocessing import Color, PreprocessSpec
from linglos_deploy.images.records import ImageRecord
from linglos_deploy.images.samples import Dataset
from linglos_deploy.images.sources import Skipped
from linglos_deploy.progress import Progress

ENOUGH_IMAGES = 32
"""Fewer images than this rarely reach the ranges of activations: the tails of a layer come from few images."""

CLIPPED_VALUES = 100
"""A percentile is an estimate from the values above it; fewer independent ones than this make it a guess."""

VALUES_PER_IMAGE = 10_000
"""What a layer late in a network shows of one image, and only the layers before show more of it."""

IMBALANCE = 10
"""How many times more images the largest class may have than the smallest one."""

FAR_MEAN, NARROW_STD, WIDE_STD = 1.5, 0.2, 3.0
"""Natural images, normalized by the statistics of their own kind, have a mean near 0 and a deviation near 1."""

SWAP_GAIN = 0.15
"""How much nearer to the expected channel means the images must be with red and blue swapped, in deviations."""

_NAMED = 5


class Problem(StrEnum):
    """What can be wrong with calibration images."""

    SKIPPED = "skipped"
    DUPLICATES = "duplicates"
    CONSTANT = "constant"
    NORMALIZATION = "normalization"
    CHANNEL_ORDER = "channel-order"
    TOO_FEW = "too-few"
    IMBALANCE = "imbalance"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to look at.

    Attributes:
        problem: Of which kind.
        count: How many images it concerns.
        message: A sentence with the count, and what to do.
        examples: Names of up to five of the images.
    """

    problem: Problem
    count: int
    message: str
    examples: tuple[str, ...] = ()


def check_data(
    dataset: Dataset, *, method: str = "weighted", percentile: float = 99.99, strict: bool = False
) -> tuple[Finding, ...]:
    """Return what looks wrong with images as calibration data.

    Args:
        dataset: The images, which are decoded if they have not been; or arrays, which are only counted.
        method: How thresholds will be chosen.
        percentile: For the method ``percentile``.
        strict: Whether findings are errors.

    Raises:
        DataError: There is a finding and ``strict`` is true.
    """
    if not isinstance(dataset, ImageDataset):
        findings = tuple(_too_few(len(dataset), method, percentile))
        return _strictly(findings) if strict else findings
    dataset = dataset.verified()
    records = dataset.records or ()
    findings = (
        *_skipped(dataset.skipped),
        *_duplicates(records),
        *_constant(records),
        *_normalization(records, dataset.spec),
        *_channel_order(records, dataset.spec),
        *_too_few(len(records), method, percentile),
        *_imbalance(dataset.labels, dataset.class_names),
    )
    return _strictly(findings) if strict else findings


def _strictly(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    if findings:
        raise DataError(
            "The calibration images were found wanting.",
            found="; ".join(finding.message for finding in findings),
            expected="no finding, because of --strict",
            next_step="mend the data, or calibrate without --strict",
        )
    return findings


def _skipped(skipped: Skipped) -> Iterator[Finding]:
    if skipped:
        names = tuple(name for name, _ in skipped[:_NAMED])
        yield Finding(
            Problem.SKIPPED, len(skipped), f"{len(skipped)} files are no usable images and are left out", names
        )


def _duplicates(records: Sequence[ImageRecord]) -> Iterator[Finding]:
    first: set[str] = set()
    repeated = []
    for record in records:
        if record.digest in first:
            repeated.append(record.id)
        first.add(record.digest)
    if repeated:
        message = f"{len(repeated)} images are exact copies of others and count twice; remove them"
        yield Finding(Problem.DUPLICATES, len(repeated), message, tuple(repeated[:_NAMED]))


def _constant(records: Sequence[ImageRecord]) -> Iterator[Finding]:
    plain = [record.id for record in records if record.constant]
    if plain:
        message = f"{len(plain)} images have one colour only and show the network nothing; remove them"
        yield Finding(Problem.CONSTANT, len(plain), message, tuple(plain[:_NAMED]))


def _normalization(records: Sequence[ImageRecord], spec: PreprocessSpec) -> Iterator[Finding]:
    if not records or (set(spec.mean) == {0.0} and set(spec.std) == {1.0}):
        return  # no pixels, or nothing that promises 0 ± 1
    mean, deviation = _overall(records)
    if max(abs(mean)) <= FAR_MEAN and min(deviation) >= NARROW_STD and max(deviation) <= WIDE_STD:
        return
    channels = zip(spec.color.letters, mean, deviation, strict=True)
    seen = ", ".join(f"{channel} {m:.2f} ± {s:.2f}" for channel, m, s in channels)
    yield Finding(
        Problem.NORMALIZATION,
        len(records),
        f"after normalization, the {len(records)} images have {seen}, far from 0 ± 1; check mean and std, and whether "
        "the data were normalized twice or not at all",
    )


def _channel_order(records: Sequence[ImageRecord], spec: PreprocessSpec) -> Iterator[Finding]:
    """Compare the channels with those that ``mean`` and ``std`` promise, as they are and with red and blue swapped.

    Says nothing where the preprocessing does not tell red from blue.
    """
    if not records or spec.channels != 3 or spec.mean[0] == spec.mean[2]:
        return
    pixels = np.array([record.mean for record in records]).mean(axis=0) * spec.std + spec.mean
    deviation = float(np.mean(spec.std))
    as_is = float(np.abs(pixels - spec.mean).mean()) / deviation
    swapped = float(np.abs(pixels[::-1] - spec.mean).mean()) / deviation
    if as_is - swapped > SWAP_GAIN:
        yield Finding(
            Problem.CHANNEL_ORDER,
            len(records),
            f"the {len(records)} images fit the preprocessing better with red and blue swapped "
            f"({swapped:.2f} deviations away instead of {as_is:.2f}); check whether they are "
            f"{'RGB' if spec.color is Color.BGR else 'BGR'}",
        )


def _too_few(count: int, method: str, percentile: float) -> Iterator[Finding]:
    wanted = ENOUGH_IMAGES
    if method == "percentile" and percentile < 100:
        wanted = max(wanted, round(CLIPPED_VALUES / (1 - percentile / 100) / VALUES_PER_IMAGE))
    if count < wanted:
        reason = f"percentile {percentile:g}" if method == "percentile" else "stable ranges"
        yield Finding(Problem.TOO_FEW, count, f"{count} images are few for {reason}; take {wanted} or more")


def _imbalance(labels: Sequence[int] | None, class_names: Sequence[str]) -> Iterator[Finding]:
    if not labels:
        return
    counts = Counter(labels)
    missing = [name for index, name in enumerate(class_names) if index not in counts]
    (most, high), (least, low) = counts.most_common()[0], counts.most_common()[-1]
    if missing:
        message = f"{len(missing)} of {len(class_names)} classes have no image"
        yield Finding(Problem.IMBALANCE, len(missing), message, tuple(missing[:_NAMED]))
    if high >= IMBALANCE * low:
        names = [class_names[index] if index < len(class_names) else str(index) for index in (most, least)]
        message = f"class '{names[0]}' has {high} images and class '{names[1]}' {low}; ranges will follow the former"
        yield Finding(Problem.IMBALANCE, high, message)


def _overall(records: Sequence[ImageRecord]) -> tuple[np.ndarray, np.ndarray]:
    mean = np.array([record.mean for record in records]).mean(axis=0)
    square = np.array([record.mean_square for record in records]).mean(axis=0)
    return mean, np.sqrt(np.maximum(square - mean**2, 0.0))


def warn_of_findings(findings: Sequence[Finding], progress: Progress) -> None:
    """Warn of what looks wrong with calibration images; skipped files were named when they were found."""
    for finding in findings:
        if finding.problem is not Problem.SKIPPED:
            progress.warn(f"{finding.message}.")
