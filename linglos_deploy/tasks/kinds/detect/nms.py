"""Non-maximum suppression, defined to the bit: float64, one class at a time, of equal scores the earlier box first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Boxes = NDArray[np.float64]


OVERLAP = 0.5
"""Of two boxes of one class, the fainter goes from this overlap on; Lin et al., "Focal Loss", section 4.1."""

MOST_BOXES = 100
"""Boxes of a picture that stay, as many as COCO counts."""


def suppress(boxes: Boxes, scores: Boxes, labels: NDArray[np.int64], *, overlap: float, most: int) -> NDArray[np.int64]:
    """Return the places of the boxes that stay, best first.

    A box goes if one of its class that stays, with a higher score, overlaps it by more than ``overlap``.

    Args:
        boxes: M x 4, left, top, right and bottom.
        scores: M.
        labels: M.
        overlap: Intersection over union, 0 to 1.
        most: Boxes that stay, at most.
    """
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    alive = np.ones(len(scores), bool)
    for place in order:
        if not alive[place]:
            continue
        kept.append(int(place))
        if len(kept) == most:
            break
        others = alive & (labels == labels[place])
        alive[others] = iou(boxes[place], boxes[others]) <= overlap
    return np.array(kept, np.int64)


def iou(box: Boxes, others: Boxes) -> Boxes:
    """Return the intersection over union of one box with others, M; 0 where neither has an area."""
    wide = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    tall = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
    both = np.maximum(wide, 0.0) * np.maximum(tall, 0.0)
    own = (box[2] - box[0]) * (box[3] - box[1])
    either = own + (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1]) - both
    shares: Boxes = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return shares
