"""Two heads on LinGlo's maps: one-to-one without anchors and without NMS, and RetinaNet."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from linglos_deploy.tasks.kinds.detect.graph_nms import keep
from linglos_deploy.tasks.kinds.detect.nms import MOST_BOXES, OVERLAP
from linglos_deploy.tasks.kinds.detect.select import by_position, centres, select

DETECTIONS = 300
"""What the head without NMS answers with."""

CANDIDATES = 1000
"""What RetinaNet leaves to NMS: Lin et al., section 4.1, take as many from each level."""

STRIDES = (8, 16, 32)
RETINA_STRIDES = (8, 16, 32, 64, 128)
ANCHORS = 9
LARGEST_STEP = math.log(1000 / 16)
"""Bound on the logarithm of a box's growth, as in Detectron."""


class Pyramid(nn.Module):
    """Feature pyramid (Lin et al., CVPR 2017) on the maps at strides 8, 16 and 32.

    Args:
        dims: Channels of the four maps; the first one is not read.
        width: Channels of every level.
    """

    def __init__(self, dims: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(dim, width, 1) for dim in dims[1:])
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in dims[1:])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the levels, finest first."""
        levels: list[Tensor] = []
        x: Tensor | None = None
        for place in reversed(range(len(self.lateral))):
            lateral = self.lateral[place](maps[place + 1])
            x = lateral if x is None else lateral + F.interpolate(x, scale_factor=2.0, mode="nearest")
            levels.insert(0, self.smooth[place](x))
        return levels


class OneToOne(nn.Module):
    """One box a position, trained so that one position answers for each object: nothing is left to suppress.

    Boxes are distances from the position to the four edges, in strides, kept positive by a softplus; so Tian et al.,
    "FCOS", ICCV 2019. One-to-one assignment makes NMS unnecessary: Sun et al., "What Makes for End-to-End Object
    Detection?", ICML 2021.

    before: maps N x dims[i] x H/s x W/s
    after:  ``detections`` N x 300 x 6: left, top, right, bottom in pixels of the input, score, class; best first
    """

    def __init__(self, dims: Sequence[int], classes: int, *, width: int) -> None:
        super().__init__()
        self.classes = classes
        self.pyramid = Pyramid(dims, width)
        self.score_tower = _tower(width, 2)
        self.box_tower = _tower(width, 2)
        self.predict_scores = nn.Conv2d(width, classes, 1)
        self.predict_boxes = nn.Conv2d(width, 4, 1)

    def raw(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits N x P x classes and boxes N x P x 4; what training needs."""
        levels = self.pyramid(maps)
        points, steps = centres(levels, STRIDES)
        logits = torch.cat([by_position(self.predict_scores(self.score_tower(it)), self.classes) for it in levels], 1)
        edges = torch.cat([by_position(self.predict_boxes(self.box_tower(it)), 4) for it in levels], 1)
        distances = F.softplus(edges) * steps
        return logits, torch.cat((points - distances[..., :2], points + distances[..., 2:]), dim=2)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Run the head; see the class for shapes."""
        return select(*self.raw(maps), DETECTIONS)


class RetinaNet(nn.Module):
    """RetinaNet: nine anchors a position, five levels; Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017.

    before: maps N x dims[i] x H/s x W/s
    after:  ``candidates`` N x 1000 x 6: left, top, right, bottom in pixels of the input, score, class; best first; NMS
            is left to whoever reads them; or, with ``nms``, ``detections`` N x 100 x 6, those that stay, then rows
            with a score of 0
    """

    def __init__(self, dims: Sequence[int], classes: int, *, width: int, nms: bool = False) -> None:
        super().__init__()
        self.classes = classes
        self.nms = nms
        self.pyramid = Pyramid(dims, width)
        self.p6 = nn.Conv2d(dims[-1], width, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.score_tower = _tower(width, 4, norm=False)
        self.box_tower = _tower(width, 4, norm=False)
        self.predict_anchor_scores = nn.Conv2d(width, ANCHORS * classes, 3, padding=1)
        self.predict_anchor_boxes = nn.Conv2d(width, ANCHORS * 4, 3, padding=1)

    def raw(self, maps: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return logits N x P x classes and boxes N x P x 4, nine of each at a position."""
        levels = self.pyramid(maps)
        levels.append(self.p6(maps[-1]))
        levels.append(self.p7(levels[-1].relu()))
        scores = [self.predict_anchor_scores(self.score_tower(it)) for it in levels]
        logits = torch.cat([by_position(it, self.classes) for it in scores], 1)
        steps = torch.cat([by_position(self.predict_anchor_boxes(self.box_tower(it)), 4) for it in levels], 1)
        return logits, decode_boxes(steps, anchors(levels), size)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Run the head; see the class for shapes."""
        rows = select(*self.raw(maps, size), CANDIDATES)
        return suppressed(rows, size) if self.nms else rows


def suppressed(rows: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the best rows that no better one of their class overlaps, at most 100; the rest has a score of 0.

    Boxes of different classes are moved apart, so that one run serves all: the input is as far as they reach.

    Args:
        rows: N x K x 6, best first, clipped to the input.
        size: Height and width of the input.
    """
    total = rows.shape[1]
    rank = torch.arange(total, 0, -1, device=rows.device, dtype=rows.dtype).expand(rows.shape[0], -1)  # scores may tie
    apart = rows[..., 5:6] * (size[0] + size[1])
    mask = keep(rows[..., :4] + apart, rank, OVERLAP, MOST_BOXES)
    _, places = (rank + total * mask).topk(min(MOST_BOXES, total), dim=1)
    scored = torch.cat((rows[..., :4], (rows[..., 4] * mask).unsqueeze(-1), rows[..., 5:]), dim=2)
    return scored.gather(1, places.unsqueeze(-1).expand(-1, -1, scored.shape[2]))


def anchors(levels: list[Tensor]) -> Tensor:
    """Return nine anchors a position, P x 4: centre x and y, width and height, in pixels.

    Sides of 4 strides times 1, 2^(1/3) and 2^(2/3); heights over widths of 1/2, 1 and 2, of equal area.
    """
    points, steps = centres(levels, RETINA_STRIDES)
    sizes = [
        (4 * 2 ** (octave / 3) * math.sqrt(1 / ratio), 4 * 2 ** (octave / 3) * math.sqrt(ratio))
        for octave in range(3)
        for ratio in (0.5, 1.0, 2.0)
    ]
    shapes = torch.tensor(sizes, dtype=points.dtype, device=points.device)
    spread = steps[:, None, :] * shapes[None]  # P x 9 x 2
    middle = points[:, None, :] + torch.zeros_like(spread)
    return torch.cat((middle, spread), dim=2).reshape(-1, 4)


def decode_boxes(steps: Tensor, anchor: Tensor, size: tuple[int, int]) -> Tensor:
    """Apply a regression to anchors and clip to the input; Girshick et al., R-CNN, CVPR 2014, appendix C.

    Args:
        steps: N x P x 4: moves of the centre in anchor sizes, logarithms of the growth in width and height.
        anchor: P x 4.
        size: Height and width of the input.
    """
    centre = anchor[:, :2] + steps[..., :2] * anchor[:, 2:]
    half = 0.5 * anchor[:, 2:] * steps[..., 2:].clamp(max=LARGEST_STEP).exp()
    left, top = centre[..., 0] - half[..., 0], centre[..., 1] - half[..., 1]
    right, bottom = centre[..., 0] + half[..., 0], centre[..., 1] + half[..., 1]
    height, width = size
    return torch.stack(
        (left.clamp(0, width), top.clamp(0, height), right.clamp(0, width), bottom.clamp(0, height)), dim=-1
    )


def _tower(width: int, depth: int, *, norm: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers.append(nn.Conv2d(width, width, 3, padding=1, bias=not norm))
        layers += [nn.BatchNorm2d(width)] if norm else []
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)
