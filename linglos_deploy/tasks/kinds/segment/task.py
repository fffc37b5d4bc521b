"""The task: names, roles and decoding of a segmentation model's output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.errors import UsageError
from linglos_deploy.images.preprocessing import Fit, Frame
from linglos_deploy.progress import Progress
from linglos_deploy.signature import Batch, Decoding
from linglos_deploy.tasks.kinds.segment.data import open_masks
from linglos_deploy.tasks.kinds.segment.metric import MeanIou
from linglos_deploy.tasks.kinds.segment.result import NO_CLASS, Segmented
from linglos_deploy.tasks.pictures import PictureExamples
from linglos_deploy.tasks.task import ModelFacts, Result, Setting, Settings, Shapes, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

SCORES, CLASSES = "scores", "classes"
Outputs = Mapping[str, tuple[int | None, ...]]


def make_head(dims: Sequence[int], classes: int, settings: Settings) -> nn.Module:
    """Make the semantic FPN.

    Raises:
        UsageError: There are more classes than 8 bits tell apart beside "no class".
    """
    from linglos_deploy.tasks.kinds.segment.head import SemanticFpn

    if classes > NO_CLASS:
        raise UsageError(
            "A map of classes has 8 bits a pixel.",
            found=f"{classes} classes",
            expected=f"at most {NO_CLASS}; the value {NO_CLASS} means no class",
            next_step="--labels with one name per class, or a checkpoint with fewer classes",
        )
    return SemanticFpn(dims, classes, width=int(settings["width"]), output=settings["output"])


def _roles(outputs: Outputs, settings: Settings) -> Mapping[str, str]:
    """The output of the role's name, else the only one; its axes tell scores from classes."""
    role, axes = settings["output"], {SCORES: 4, CLASSES: 3}[settings["output"]]
    name = role if role in outputs else next(iter(outputs))
    if (role not in outputs and len(outputs) > 1) or len(outputs[name]) != axes:
        raise UsageError(
            f"The model does not answer with {role} of every pixel.",
            found=", ".join(f"'{name}' of shape {list(shape)}" for name, shape in outputs.items()),
            expected="'scores', N x classes x H x W, or 'classes', uint8 N x H x W",
            next_step="--task-option output=classes, or output=scores, whichever it is",
        )
    return {role: name}


def _count_classes(outputs: Outputs, decoding: Decoding) -> int | None:
    return outputs[decoding.outputs[SCORES]][1] if SCORES in decoding.outputs else None


def _decode(outputs: Batch, decoding: Decoding, frames: Sequence[Frame]) -> list[Result]:
    """Take the best class of each pixel, then map it to the picture; of equal scores the lower class is best."""
    if CLASSES in decoding.outputs:
        maps = np.asarray(outputs[decoding.outputs[CLASSES]]).astype(np.uint8)
    else:
        scores = np.asarray(outputs[decoding.outputs[SCORES]])
        maps = np.where(np.isnan(scores).any(axis=1), NO_CLASS, scores.argmax(axis=1)).astype(np.uint8)
    return [Segmented(_at_input_size(it, frame)) for it, frame in zip(maps, frames, strict=True)]


def _at_input_size(classes: NDArray[np.uint8], frame: Frame) -> NDArray[np.uint8]:
    """Map to the picture; a model that answers at another size than its input is taken pixel by pixel, nearest."""
    if classes.shape != frame.input_size:
        rows, columns = (
            (2 * np.arange(size) + 1) * have // (2 * size)
            for size, have in zip(frame.input_size, classes.shape, strict=True)
        )
        classes = classes[rows[:, None], columns[None, :]]
    return frame.map_in_picture(classes, unseen=NO_CLASS)


def _examples(path: Path, facts: ModelFacts, progress: Progress) -> PictureExamples:
    classes = _count_classes(facts.outputs, facts.decoding) or len(facts.labels) or None
    return open_masks(path, facts.spec, classes)


def _name_outputs(shapes: Shapes, input_size: tuple[int, int], settings: Settings) -> tuple[str, ...]:
    if len(shapes) == 1:
        return (CLASSES,) if len(shapes[0]) == 3 else (SCORES,)
    return tuple(f"output_{position}" for position in range(len(shapes)))


segment = Task(
    name="segment",
    summary="a class for every pixel",
    name_outputs=_name_outputs,
    roles=_roles,
    count_classes=_count_classes,
    decode=_decode,
    outputs=lambda settings: (settings["output"],),
    settings=(
        Setting("output", (SCORES, CLASSES), "float32 scores of every class, or the best class as uint8"),
        Setting("width", ("256", "128", "64", "32"), "channels of the pyramid"),
    ),
    suffix="_segment",
    num_classes=150,  # ADE20K, on which the paper reports
    head=make_head,
    class_tensor="head.predict.weight",
    float_layers=(r"head\.predict.*",),
    indices=(CLASSES,),
    fit=Fit.LETTERBOX,
    image_size=512,
    examples=_examples,
    metric=lambda facts: MeanIou(),
)
