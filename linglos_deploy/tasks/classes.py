"""Labelled images and a classifier's outputs: which class stands at which output, and what the counts can tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from linglos_deploy.errors import UsageError
from linglos_deploy.images.dataset import ImageDataset

SIGNIFICANCE = 0.01
"""Probability of as many hits by guessing from which on nothing can be concluded from them."""


@dataclass(frozen=True, slots=True)
class ClassIndices:
    """Where the classes of labelled images stand among a model's outputs.

    Attributes:
        classes: Number of the model's outputs.
        targets: The output that stands for each image's class.
        warnings: What was taken for granted, and classes without images.
    """

    classes: int
    targets: tuple[int, ...]
    warnings: tuple[str, ...] = ()


def class_indices(images: ImageDataset, labels: Sequence[str], outputs: int) -> ClassIndices:
    """Find the output of every image's class: by name where the model knows names, else in sorted order.

    Args:
        images: Labelled images.
        labels: The model's class names, empty if it knows none.
        outputs: Number of the model's outputs.

    Raises:
        UsageError: A folder's name is none of the model's classes; or the model names none, and there are more or fewer
            folders than outputs.
    """
    found, given = images.labels or (), images.class_names
    if not given:
        return _by_number(found, outputs)
    if not labels:
        if len(given) != outputs:
            raise UsageError(
                "The classes of the labelled images are not those of the model.",
                found=f"{len(given)} folders: {_few(given)}",
                expected=f"{outputs}, one per output; or the name of each output, where some have no images",
                next_step="--labels names.txt, with one folder's name per output, in the order of the outputs",
            )
        order = f"The model names no classes; its outputs are taken for the sorted folders: {_few(given)}."
        return ClassIndices(outputs, tuple(found), (order,))
    unknown = sorted(set(given) - set(labels))
    if unknown:
        raise UsageError(
            "The labelled images have a class that the model does not know.",
            found=_few(unknown),
            expected=_few(labels, 10),
            next_step="name the sub-folders like the model's labels",
        )
    places = [list(labels).index(name) for name in given]
    seen = {given[label] for label in found}
    missing = [name for name in labels if name not in seen]
    said = f"{len(missing)} of {len(labels)} classes have no labelled images: {_few(missing)}. Nothing is said of them."
    return ClassIndices(outputs, tuple(places[label] for label in found), (said,) if missing else ())


def _by_number(found: Sequence[int], outputs: int) -> ClassIndices:
    beyond = sorted({label for label in found if not 0 <= label < outputs})
    if beyond:
        raise UsageError(
            "A label of the images is no output of the model.",
            found=", ".join(map(str, beyond[:5])),
            expected=f"0 to {outputs - 1}",
            next_step="number the classes like the model's outputs",
        )
    missing = outputs - len(set(found))
    said = f"{missing} of {outputs} classes have no labelled images. Nothing is said of them."
    return ClassIndices(outputs, tuple(found), (said,) if missing else ())


def guessing(correct: int, count: int, classes: int) -> str | None:
    """Say that a classifier cannot be told from guessing; ``None`` if it can.

    The test is exact and one-sided: the probability of at least ``correct`` hits among ``count`` images when each is
    hit with a chance of one in ``classes`` (the upper tail of the binomial distribution).

    >>> guessing(99, 100, 10) is None
    True
    """
    chance = 1 / max(classes, 1)
    if chance == 1 or tail(correct, count, chance) > SIGNIFICANCE:
        return (
            f"PyTorch is right on {correct} of {count} images ({100 * correct / count:.1f} %), as guessing among"
            f" {classes} classes ({100 * chance:.1f} %) could be: labels, preprocessing or weights are not what they"
            " should be, or the images are too few. No loss of accuracy can be seen in this."
        )
    return None


def tail(least: int, count: int, chance: float) -> float:
    """Return the probability of ``least`` or more hits in ``count`` independent tries.

    >>> round(tail(1, 2, 0.5), 6)
    0.75
    """
    if least <= 0:
        return 1.0
    logs = (
        math.lgamma(count + 1)
        - math.lgamma(hits + 1)
        - math.lgamma(count - hits + 1)
        + hits * math.log(chance)
        + (count - hits) * math.log1p(-chance)
        for hits in range(least, count + 1)
    )
    return min(1.0, math.fsum(math.exp(log) for log in logs))


def _few(names: Sequence[str], count: int = 5) -> str:
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")
