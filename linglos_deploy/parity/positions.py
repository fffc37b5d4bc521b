"""Does an image answer the same alone and in any place of a batch? A leak between images is seen nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

import numpy as np

from linglos_deploy.backends.base import Runner
from linglos_deploy.choices import Precision
from linglos_deploy.parity.metrics import EQUAL_DB, compare
from linglos_deploy.reports.parity import Finding
from linglos_deploy.signature import Batch

POSITIONS = 4
"""Images that share a batch."""

MEDIAN_DB = {Precision.FP32: 90.0, Precision.FP16: 60.0, Precision.BF16: 50.0, Precision.INT8: 50.0}
"""SQNR between the answers of an image alone and among others, in the middle of all images and places.

Float32 sums are ordered by the size of the batch. Where a tensor is rounded, such a difference moves the odd value that
lay between two steps to the other one, in few images or in none; a leak of one part in a hundred leaves 40 dB in all.
"""


def check_positions(runner: Runner, batches: Iterable[Batch], precision: Precision) -> Finding:
    """Run a few images alone, together, and together in the reverse order.

    Args:
        runner: The model; it takes any number of images.
        batches: Images of one size; the first few are used.
        precision: Of the model: how much a batch of another size may differ.
    """
    images = first_images(batches, POSITIONS)
    count = min((len(array) for array in images.values()), default=0)
    limit = MEDIAN_DB[Precision.INT8 if precision.is_int8 else precision]
    name = "an image answers the same in any place of a batch"
    if count < 2:
        return Finding(name, None, "there is one image only", "at least two images, with --data")
    together = _copied(runner.run(images))
    reverse = _copied(runner.run({key: np.ascontiguousarray(array[::-1]) for key, array in images.items()}))
    worst, place = EQUAL_DB, ""
    for output in runner.signature.output_names:
        if not together[output].ndim or len(together[output]) != count:
            continue
        found = []
        for index in range(count):
            alone = _copied(runner.run({key: array[index : index + 1] for key, array in images.items()}))[output]
            others = together[output][index : index + 1], reverse[output][count - 1 - index : count - index]
            found += [_closeness(alone, other) for other in others]
        if (middle := median(found)) < worst:
            worst, place = middle, output
    return Finding(
        name,
        worst >= limit,
        f"{worst:.1f} dB between alone and among {count - 1} others" + (f", in '{place}'" if place else ""),
        f"at least {limit:g} dB",
    )


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
