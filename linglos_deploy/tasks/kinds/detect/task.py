"""The task: names, roles and decoding of a detector's output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.errors import UsageError
from linglos_deploy.images.preprocessing import Fit, Frame
from linglos_deploy.progress import Progress
from linglos_deploy.signature import Batch, Decoding
from linglos_deploy.tasks.kinds.detect.data import open_coco
from linglos_deploy.tasks.kinds.detect.metric import AveragePrecision
from linglos_deploy.tasks.kinds.detect.nms import MOST_BOXES, OVERLAP, suppress
from linglos_deploy.tasks.kinds.detect.result import LEAST_SCORE, Box, Detected
from linglos_deploy.tasks.kinds.detect.view import pair_detections
from linglos_deploy.tasks.pictures import PictureExamples
from linglos_deploy.tasks.task import ModelFacts, Result, Setting, Settings, Shapes, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

NMS_FREE, RETINANET, RETINANET_NMS = "nms-free", "retinanet", "retinanet-nms"
DETECTIONS, CANDIDATES = "detections", "candidates"
VALUES = 6
Outputs = Mapping[str, tuple[int | None, ...]]


def make_head(dims: Sequence[int], classes: int, settings: Settings) -> nn.Module:
    """Make the head that the settings name."""
    from linglos_deploy.tasks.kinds.detect.head import OneToOne, RetinaNet

    width = int(settings["width"])
    if settings["head"] == NMS_FREE:
        return OneToOne(dims, classes, width=width)
    return RetinaNet(dims, classes, width=width, nms=settings["head"] == RETINANET_NMS)


def _role(settings: Settings) -> str:
    return CANDIDATES if settings["head"] == RETINANET else DETECTIONS


def _roles(outputs: Outputs, settings: Settings) -> Mapping[str, str]:
    """The output of the role's name, else the only one: rows of six numbers."""
    role = _role(settings)
    name = role if role in outputs else next(iter(outputs))
    shape = outputs[name]
    if (role not in outputs and len(outputs) > 1) or len(shape) != 3 or shape[-1] != VALUES:
        raise UsageError(
            f"The model does not answer with {role}.",
            found=", ".join(f"'{name}' of shape {list(shape)}" for name, shape in outputs.items()),
            expected="N x K x 6: left, top, right, bottom in pixels of the input, score, class",
            next_step="put such rows together in the module, or export it with --task features",
        )
    return {role: name}


def _decode(outputs: Batch, decoding: Decoding, frames: Sequence[Frame]) -> list[Result]:
    """Leave out what is too faint or NaN, suppress candidates that overlap a better one, and map to the picture."""
    ((role, name),) = decoding.outputs.items()
    rows = np.asarray(outputs[name], np.float64)
    return [_detected(it, frame, nms=role == CANDIDATES) for it, frame in zip(rows, frames, strict=True)]


def _detected(rows: NDArray[np.float64], frame: Frame, *, nms: bool) -> Detected:
    rows = rows[np.isfinite(rows).all(axis=1)]
    rows = rows[rows[:, 4] >= LEAST_SCORE]
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    if nms:
        labels = rows[:, 5].astype(np.int64)
        rows = rows[suppress(rows[:, :4], rows[:, 4], labels, overlap=OVERLAP, most=MOST_BOXES)]
    boxes = frame.boxes_in_picture(rows[:, :4])
    inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])  # the rest lies in the bars
    boxes, rows = boxes[inside], rows[inside]
    return Detected(
        tuple(
            Box(float(left), float(top), float(right), float(bottom), float(row[4]), int(row[5]))
            for (left, top, right, bottom), row in zip(boxes, rows, strict=True)
        )
    )


def _examples(path: Path, facts: ModelFacts, progress: Progress) -> PictureExamples:
    return open_coco(path, facts.spec, facts.labels)


def _name_outputs(shapes: Shapes, input_size: tuple[int, int], settings: Settings) -> tuple[str, ...]:
    if len(shapes) == 1:
        return (_role(settings) if settings else DETECTIONS,)
    return tuple(f"output_{position}" for position in range(len(shapes)))


detect = Task(
    name="detect",
    summary="boxes with a class and a score",
    name_outputs=_name_outputs,
    roles=_roles,
    count_classes=lambda outputs, decoding: None,
    decode=_decode,
    outputs=lambda settings: (_role(settings),),
    settings=(
        Setting("head", (NMS_FREE, RETINANET, RETINANET_NMS), "without NMS; NMS on the host; NMS in the graph"),
        Setting("width", ("256", "128", "64", "32"), "channels of the pyramid"),
    ),
    suffix="_detect",
    num_classes=80,  # COCO, on which the paper reports
    head=make_head,
    class_tensor="head.predict_scores.weight",
    float_layers=(r"head\.predict_.*",),
    views={DETECTIONS: pair_detections, CANDIDATES: pair_detections},
    fit=Fit.LETTERBOX,
    image_size=512,
    examples=_examples,
    metric=lambda facts: AveragePrecision(),
)
