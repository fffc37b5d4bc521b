"""From scores and boxes at every position to a fixed number of detections, best first; no shape depends on data.

Two stages, as in Wang et al., "YOLOv10: Real-Time End-to-End Object Detection", 2024, keep the sorted tensors small:
first the positions whose best class scores highest, then the best pairs of these positions and a class.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST = 3840
"""TensorRT's TopK takes no more."""


def select(logits: Tensor, boxes: Tensor, most: int) -> Tensor:
    """Return the best detections.

    before: logits N x P x classes, boxes N x P x 4
    after:  N x K x 6: left, top, right, bottom, score, class; K is ``most``, or P if there are fewer positions

    The order of logits is that of scores, so the sigmoid is taken of what was selected.

    Args:
        logits: Score of every class at every position, before the sigmoid.
        boxes: The box of every position, in pixels.
        most: How many detections are wanted, below 3840.
    """
    positions, classes = logits.shape[1], logits.shape[2]
    count = positions if isinstance(positions, int) and positions < most else most
    _, places = logits.amax(dim=2).topk(count, dim=1)
    rows = places.unsqueeze(-1)
    logits = logits.gather(1, rows.expand(-1, -1, classes))
    boxes = boxes.gather(1, rows.expand(-1, -1, 4))
    best, pairs = logits.flatten(1).topk(count, dim=1)
    which = torch.div(pairs, classes, rounding_mode="floor")
    label = (pairs - which * classes).to(boxes.dtype)
    boxes = boxes.gather(1, which.unsqueeze(-1).expand(-1, -1, 4))
    return torch.cat((boxes, best.sigmoid().unsqueeze(-1), label.unsqueeze(-1)), dim=2)


def centres(maps: list[Tensor], strides: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return every position's centre, x and y in pixels, P x 2, and stride, P x 1; level by level, row by row."""
    points, steps = [], []
    for level, stride in zip(maps, strides, strict=True):
        height, width = level.shape[2], level.shape[3]
        y = (torch.arange(height, device=level.device, dtype=level.dtype) + 0.5) * stride
        x = (torch.arange(width, device=level.device, dtype=level.dtype) + 0.5) * stride
        grid = torch.stack((x[None, :].expand(height, -1), y[:, None].expand(-1, width)), dim=-1).reshape(-1, 2)
        points.append(grid)
        steps.append(torch.full_like(grid[:, :1], float(stride)))
    return torch.cat(points), torch.cat(steps)


def by_position(level: Tensor, values: int) -> Tensor:
    """Turn N x (A values) x H x W into N x (H W A) x values."""
    count, height, width = level.shape[0], level.shape[2], level.shape[3]
    return level.reshape(count, -1, values, height, width).permute(0, 3, 4, 1, 2).flatten(1, 3)
