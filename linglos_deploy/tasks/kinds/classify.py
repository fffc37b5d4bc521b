"""A classifier: one number a class, the largest one decides; judged by the share of pictures it gets right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from linglos_deploy.errors import UsageError
from linglos_deploy.images.dataset import ImageDataset, open_dataset
from linglos_deploy.images.preprocessing import Frame, frame_of
from linglos_deploy.progress import Progress
from linglos_deploy.signature import Batch, ModelSignature
from linglos_deploy.tasks.classes import class_indices
from linglos_deploy.tasks.drawing import banner, class_name
from linglos_deploy.tasks.task import Decoding, Group, ModelFacts, Result, Settings, Shapes, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

LOGITS = "logits"
SHOWN = 5
"""Classes that a result names."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A class and its probability, the softmax over all classes."""

    index: int
    probability: float


@dataclass(frozen=True, slots=True)
class Classified:
    """What a classifier says about one picture.

    Attributes:
        best: The most probable classes, best first; none where a number is NaN. Of equals, the lower index comes first.
    """

    best: tuple[Ranked, ...]

    def lines(self, labels: Sequence[str]) -> list[str]:
        """Return a line per class, best first."""
        if not self.best:
            return ["no class: the model's answer is NaN"]
        return [f"{class_name(it.index, labels)}: {100 * it.probability:.2f} %" for it in self.best]

    def facts(self, labels: Sequence[str]) -> dict[str, Any]:
        """Return index, name and probability of the best classes."""
        return {
            "classes": [
                {"index": it.index, "label": class_name(it.index, labels), "probability": it.probability}
                for it in self.best
            ]
        }

    def draw(self, picture: Image.Image, labels: Sequence[str]) -> Image.Image:
        """Return the picture with the best class written on it."""
        return banner(picture, self.lines(labels)[0])


def _name_outputs(shapes: Shapes, input_size: tuple[int, int], settings: Settings) -> tuple[str, ...]:
    return (LOGITS,) if len(shapes) == 1 else tuple(f"output_{position}" for position in range(len(shapes)))


def _roles(outputs: Mapping[str, tuple[int | None, ...]], settings: Settings) -> Mapping[str, str]:
    """Return the output of this name, else the first one: modules that return more put it there."""
    name = LOGITS if LOGITS in outputs else next(iter(outputs))
    if len(outputs[name]) != 2:
        raise UsageError(
            "The model is no classifier.",
            found=f"'{name}' of shape {list(outputs[name])}",
            expected="an output of N x classes",
            next_step="--task features, or another task that its outputs belong to",
        )
    return {LOGITS: name}


def _decode(outputs: Batch, decoding: Decoding, frames: Sequence[Frame]) -> list[Result]:
    logits = np.asarray(outputs[decoding.outputs[LOGITS]], np.float64)
    return [_rank(row) for row in logits]


def _rank(row: NDArray[np.float64]) -> Classified:
    if np.isnan(row).any():
        return Classified(())
    finite = np.nan_to_num(row, posinf=1e30, neginf=-1e30)
    shares = np.exp(finite - finite.max())
    shares /= shares.sum()
    order = np.argsort(-row, kind="stable")[:SHOWN]
    return Classified(tuple(Ranked(int(index), float(shares[index])) for index in order))


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Labelled images as examples: a folder a class, or an array with labels."""

    dataset: ImageDataset
    targets: tuple[int, ...]
    warnings: tuple[str, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """Name of each image."""
        return self.dataset.ids

    def groups(self, size: int, signature: ModelSignature) -> Iterator[Group]:
        """Yield them; see :class:`~linglos_deploy.tasks.task.Examples`."""
        frame = frame_of(*self.dataset.spec.input_size, self.dataset.spec)
        start = 0
        for samples in self.dataset.samples(size, signature=signature):
            truths = self.targets[start : start + samples.count]
            start += samples.count
            yield Group(samples.batch, samples.ids, (frame,) * samples.count, truths)


def _examples(path: Path, facts: ModelFacts, progress: Progress) -> LabelledImages:
    dataset = open_dataset(path, facts.spec, progress=progress)
    if not dataset.labels:
        raise UsageError(
            f"The images in '{path}' have no labels.",
            found=f"{len(dataset)} images without a class",
            expected="one sub-folder a class, or an .npz with 'images' and 'labels'",
            next_step="sort the images into folders that are named like the classes",
        )
    shape = facts.outputs[facts.decoding.outputs[LOGITS]]
    indices = class_indices(dataset, facts.labels, int(shape[-1] or len(facts.labels)))
    return LabelledImages(dataset, indices.targets, (*_skipped(dataset), *indices.warnings))


def _skipped(dataset: ImageDataset) -> tuple[str, ...]:
    return tuple(f"'{name}' is left out: {reason}" for name, reason in dataset.skipped)


@dataclass(frozen=True, slots=True)
class Top1:
    """The share of images whose most probable class is theirs."""

    name: str = "top-1"
    draws: int = 1000

    def record(self, result: Classified, truth: int) -> bool:
        """Return whether the best class is right."""
        return bool(result.best) and result.best[0].index == truth

    def value(self, records: Sequence[bool], places: NDArray[np.int64]) -> float:
        """Return the share of right ones."""
        return float(np.asarray(records, np.float64)[places].mean())


classify = Task(
    name="classify",
    summary="a classifier",
    name_outputs=_name_outputs,
    roles=_roles,
    count_classes=lambda outputs, decoding: outputs[decoding.outputs[LOGITS]][-1],
    decode=_decode,
    outputs=lambda settings: (LOGITS,),
    class_tensor="head.weight",
    examples=_examples,
    metric=lambda facts: Top1(),
)
