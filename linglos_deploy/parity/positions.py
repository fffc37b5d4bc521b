"""Does an image answer the same alone and in any place of a batch? A leak between images is seen nowhere else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from statistics import median

import numpy as np

from linglos_deploy.backends.base import Runner
from linglos_deploy.backends.images_first import ImagesFirstRunner
from linglos_deploy.choices import Precision
from linglos_deploy.graph.axes import NotApart
from linglos_deploy.parity.metrics import EQUAL_DB, compare
from linglos_deploy.reports.parity import Finding
from linglos_deploy.signature import Batch

POSITIONS = 4
"""Images that share a batch."""

COMPANY_DB = 90.0
"""Least SQNR between an image's answers at one place of a batch, among others and among copies of itself.

Nothing but the neighbours differs: the same kernels do the same sums in the same order, whatever the precision, so the
answers are the same to the bit unless images leak. A leak of one part in ten thousand leaves 80 dB.
"""

MEDIAN_DB = {Precision.FP32: 90.0, Precision.FP16: 60.0, Precision.BF16: 50.0, Precision.INT8: 20.0}
"""SQNR between the answers of an image alone and among others, in the middle of all images and places.

Kernels order their sums by the size of the batch. Where tensors are rounded to INT8, that moves values that lay between
two steps, and a deep network carries them on: 33 dB were seen on variant ``b`` with random weights.
"""


SIZES = (2, 3, 7, 9, 17)
"""Sizes of batches that are tried where nothing proves a graph's wiring: odd ones, one beyond the golden images'."""

SIZES_DB = 60.0
"""Least SQNR between an image alone and at any place of a batch of any of these sizes.

A wrong broadcast, a constant that was the exporter's batch, a branch on the number of images: all are gross. Other
kernels for other sizes cost the worst image more than the middle one, so less is asked for than there.
"""

REPEATED_DB = 130.0
"""Least SQNR between two runs on the same images: the same sums in the same order, so nothing but chance may differ."""


def check_positions(
    runner: Runner, batches: Iterable[Batch], precision: Precision, *, choices: Collection[str] = ()
) -> Finding:
    """Run a few images alone, together, in the reverse order, and each among copies of itself.

    Args:
        runner: The model; it takes any number of images.
        batches: Images of one size; the first few are used.
        precision: Of the model: how much a batch of another size may differ.
        choices: Outputs that choose among close numbers, which sums in another order may tip: of these only the
            comparison among equal kernels is made.
    """
    images = first_images(batches, POSITIONS)
    count = min((len(array) for array in images.values()), default=0)
    limit = MEDIAN_DB[Precision.INT8 if precision.is_int8 else precision]
    name = "an image answers the same in any place of a batch"
    if count < 2:
        return Finding(name, None, "there is one image only", "at least two images, with --data")
    together = _copied(runner.run(images))
    reverse = _copied(runner.run({key: np.ascontiguousarray(array[::-1]) for key, array in images.items()}))
    alone = [
        _copied(runner.run({key: array[index : index + 1] for key, array in images.items()})) for index in range(count)
    ]
    mixed = _mixed(runner)
    axes = {name: axis for name, axis in _image_axes(alone[0], together, count).items() if name not in mixed}
    if not axes:
        return Finding(name, None, "no output has an axis of images", "an output whose size follows the batch's")
    said = f"; not of {', '.join(mixed)}, compared one image at a time: one answer for all images" if mixed else ""
    leak, leaking = _worst_company(runner, images, together, axes)
    if leak < COMPANY_DB:
        return Finding(
            name,
            False,
            f"{leak:.1f} dB between the same place among {count - 1} others and among copies of itself, in '{leaking}'",
            f"at least {COMPANY_DB:g} dB: what else is in a batch must not matter",
        )
    worst, place = EQUAL_DB, ""
    for output, axis in axes.items():
        if output in choices:
            continue
        found = []
        for index in range(count):
            others = _image(together[output], index, axis), _image(reverse[output], count - 1 - index, axis)
            found += [_closeness(alone[index][output], other) for other in others]
        if (middle := median(found)) < worst:
            worst, place = middle, output
    return Finding(
        name,
        worst >= limit,
        f"{worst:.1f} dB between alone and among {count - 1} others" + (f", in '{place}'" if place else "") + said,
        f"at least {limit:g} dB",
    )


def _mixed(runner: Runner) -> list[str]:
    """Return the outputs that give one answer for all images, so that nothing of theirs is an image's own."""
    places = runner.places if isinstance(runner, ImagesFirstRunner) else {}
    return [name for name, place in places.items() if place is NotApart.MIXED]


def check_sizes(
    runner: Runner, batches: Iterable[Batch], *, noise_db: Mapping[str, float], choices: Collection[str] = ()
) -> tuple[Finding, Finding]:
    """Run a few images in batches of several sizes, and one of these twice.

    Args:
        runner: The model; it takes any number of images.
        batches: Images of one size; the first few are used, again and again.
        noise_db: SQNR of the reference's own float32, per output: 35 dB below it nothing is judged.
        choices: Outputs that choose among close numbers, which sums in another order may tip.
    """
    images = first_images(batches, POSITIONS)
    count = min((len(array) for array in images.values()), default=0)
    alone = [
        _copied(runner.run({key: array[index : index + 1] for key, array in images.items()})) for index in range(count)
    ]
    worst, place, room = EQUAL_DB, "", EQUAL_DB
    for size in SIZES:
        rows = np.arange(size) % count
        answers = _copied(runner.run({key: array[rows] for key, array in images.items()}))
        for output, axis in _image_axes(alone[0], answers, size).items():
            if output in choices:
                continue
            limit = min(SIZES_DB, noise_db.get(output, EQUAL_DB) - 35.0)
            for index, row in enumerate(rows.tolist()):
                closeness = _closeness(alone[row][output], _image(answers[output], index, axis))
                if closeness - limit < room:
                    room, worst = closeness - limit, closeness
                    place = f", in '{output}' at place {index + 1} of {size}"
    again = _copied(runner.run({key: array[rows] for key, array in images.items()}))
    repeated = min((_closeness(answers[output], again[output]) for output in answers), default=EQUAL_DB)
    return (
        Finding(
            f"an image answers the same in batches of {', '.join(map(str, SIZES))}",
            room >= 0,
            f"{worst:.1f} dB{place}",
            f"at least {worst - room:g} dB",
        ),
        Finding(
            "the same images answer the same again",
            repeated >= REPEATED_DB,
            f"{repeated:.1f} dB between two runs",
            f"at least {REPEATED_DB:g} dB: nothing may be left to chance",
        ),
    )


def _image_axes(alone: Batch, together: Batch, count: int) -> dict[str, int]:
    """Return the axis of the images of each output that has one: 1 for one image, ``count`` for all of them.

    It need not be the first: a state is (layers, images, channels), and there may be as many layers as images.
    """
    axes = {}
    for output, array in together.items():
        sizes = list(enumerate(zip(alone[output].shape, array.shape, strict=False)))
        changed = [axis for axis, (one, all_) in sizes if one != all_]
        if alone[output].ndim == array.ndim and len(changed) == 1 and sizes[changed[0]][1] == (1, count):
            axes[output] = changed[0]
    return axes


def _image(array: np.ndarray, index: int, axis: int) -> np.ndarray:
    return np.take(array, [index], axis)


def _worst_company(runner: Runner, images: Batch, together: Batch, axes: Mapping[str, int]) -> tuple[float, str]:
    """Return how far an image's answer moves, at most, where its neighbours become copies of itself, and where."""
    count = len(next(iter(images.values())))
    worst, place = EQUAL_DB, ""
    for index in range(count):
        answers = runner.run({key: np.repeat(array[index : index + 1], count, axis=0) for key, array in images.items()})
        for output, axis in axes.items():
            closeness = _closeness(_image(answers[output], index, axis), _image(together[output], index, axis))
            if closeness < worst:
                worst, place = closeness, output
    return worst, place


def _closeness(alone: np.ndarray, among: np.ndarray) -> float:
    metrics = compare(alone, among)
    return -EQUAL_DB if metrics.mismatched_nonfinite else min(metrics.sqnr_db, EQUAL_DB)


def first_images(batches: Iterable[Batch], count: int) -> dict[str, np.ndarray]:
    """Return one batch of the first few samples that differ from one another."""
    kept: list[dict[str, np.ndarray]] = []
    for batch in batches:
        for row in range(min(len(array) for array in batch.values())):
            sample = {name: np.array(array[row : row + 1]) for name, array in batch.items()}
            if not any(_same(sample, other) for other in kept):
                kept.append(sample)
            if len(kept) == count:
                break
        if len(kept) == count:
            break
    return {name: np.concatenate([sample[name] for sample in kept]) for name in (kept[0] if kept else ())}


def _same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return all(
        array.shape == second[name].shape and np.array_equal(array, second[name]) for name, array in first.items()
    )


def _copied(outputs: Batch) -> dict[str, np.ndarray]:
    return {name: np.array(array) for name, array in outputs.items()}
