"""Semantic FPN: a feature pyramid whose levels meet at stride 4.

Source: Kirillov, Girshick, He, Dollár, "Panoptic Feature Pyramid Networks", CVPR 2019, section 4.1; with batch instead
of group normalization, which folds into the convolutions, as PVT's segmentation has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = "classes"


class SemanticFpn(nn.Module):
    """From four maps at strides 4, 8, 16 and 32 to scores, or classes, at the image's size.

    before: maps N x dims[i] x H/s x W/s
    after:  ``scores`` float32 N x classes x H x W, or ``classes`` uint8 N x H x W

    Scores are resized before the best class is taken: edges between classes then lie between the coarse positions.

    Args:
        dims: Channels of the maps.
        classes: How many classes.
        width: Channels of the pyramid; what the levels add up to has half.
        output: ``"scores"`` or ``"classes"``.
    """

    def __init__(self, dims: Sequence[int], classes: int, *, width: int, output: str) -> None:
        super().__init__()
        self.output = output
        self.lateral = nn.ModuleList(nn.Conv2d(dim, width, 1) for dim in dims)
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in dims)
        self.scale = nn.ModuleList(_to_stride_4(width, width // 2, level) for level in range(len(dims)))
        self.predict = nn.Conv2d(width // 2, classes, 1)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Run the head; see the class for shapes."""
        x: Tensor | None = None
        total: Tensor | None = None
        for level in reversed(range(len(maps))):
            lateral = self.lateral[level](maps[level])
            x = lateral if x is None else lateral + F.interpolate(x, scale_factor=2.0, mode="nearest")
            part = self.scale[level](self.smooth[level](x))
            total = part if total is None else total + part
        scores = F.interpolate(self.predict(cast(Tensor, total)), scale_factor=4.0, mode="bilinear")
        return scores.argmax(dim=1).to(torch.uint8) if self.output == CLASSES else scores


def _to_stride_4(before: int, after: int, level: int) -> nn.Sequential:
    """Return a convolution for each doubling of the size that a level needs, at least one."""
    layers: list[nn.Module] = []
    for step in range(max(1, level)):
        layers += [
            nn.Conv2d(before if step == 0 else after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
        if level:
            layers.append(nn.Upsample(scale_factor=2.0, mode="bilinear"))
    return nn.Sequential(*layers)
