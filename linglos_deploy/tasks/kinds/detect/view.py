"""Two lists of detections, made comparable: each box of the reference beside the one that the candidate has for it.

Where scores are close to one another, rounding changes their order; row by row the lists would be about different
objects. Boxes and scores become outputs of their own, so that boxes, with hundreds of pixels, do not hide scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.tasks.kinds.detect.nms import iou

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pairs = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]

SAME = 0.5
"""Least overlap of two boxes, of one class, that are taken for the same."""

MARGIN = np.array([-0.5, -0.5, 0.5, 0.5])
"""By which boxes are grown for that, in pixels: those that were clipped to nothing overlap themselves, too."""


def pair_detections(reference: NDArray[np.generic], candidate: NDArray[np.generic]) -> Pairs:
    """Return ``boxes`` N x K x 4, ``scores`` N x K x 1 and ``found`` N x K of both lists, in the reference's order.

    Every reference box, best first, takes the free candidate of its class that overlaps it most. One without a partner
    counts as missing in ``found``, 1 in the reference and 0 in the candidate, and is left out (zeros) of the rest.

    Args:
        reference: N x K x 6.
        candidate: N x K x 6.
    """
    wanted, given = np.asarray(reference, np.float64), np.asarray(candidate, np.float64)
    aligned, found = np.zeros_like(wanted), np.zeros(wanted.shape[:2])
    for image in range(len(wanted)):
        free = np.ones(given.shape[1], bool)
        for row in range(wanted.shape[1]):
            same = free & (given[image, :, 5] == wanted[image, row, 5])
            if not same.any():
                continue
            places = np.flatnonzero(same)
            overlaps = iou(wanted[image, row, :4] + MARGIN, given[image, places, :4] + MARGIN)
            best = int(overlaps.argmax())
            if overlaps[best] >= SAME:
                aligned[image, row], found[image, row] = given[image, places[best]], 1.0
                free[places[best]] = False
    known = wanted * found[..., None]
    return {
        "boxes": (known[..., :4], aligned[..., :4]),
        "scores": (known[..., 4:5], aligned[..., 4:5]),
        "found": (np.ones_like(found), found),
    }
