"""What a segmentation model says about one picture: a map of classes in the picture's own size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from linglos_deploy.tasks.drawing import class_name, color_of, write_text

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

NO_CLASS = 255
"""In a map: the model did not see this pixel, or its answer is NaN. In a mask of the truth: nobody says what it is."""

OPACITY = 0.5
"""Of the colours on a drawn picture."""


@dataclass(frozen=True, slots=True)
class Segmented:
    """A class for every pixel.

    Attributes:
        classes: uint8 of the picture's height and width; 255 where there is no class.
    """

    classes: NDArray[np.uint8]

    @property
    def shares(self) -> dict[int, float]:
        """Share of the picture's pixels that each class has, largest first; of equals the lower index first."""
        counts = np.bincount(self.classes.reshape(-1), minlength=NO_CLASS + 1)
        order = sorted(np.flatnonzero(counts).tolist(), key=lambda index: (-counts[index], index))
        return {index: float(counts[index] / self.classes.size) for index in order}

    def lines(self, labels: Sequence[str]) -> list[str]:
        """Return a line per class, the largest first."""
        return [f"{_name(index, labels)}: {100 * share:.2f} % of the pixels" for index, share in self.shares.items()]

    def facts(self, labels: Sequence[str]) -> dict[str, Any]:
        """Return the size of the map and every class's share; the map itself is what ``--draw`` writes."""
        height, width = self.classes.shape
        return {
            "height": height,
            "width": width,
            "classes": [
                {"index": index, "label": _name(index, labels), "share": share} for index, share in self.shares.items()
            ],
        }

    def draw(self, picture: Image.Image, labels: Sequence[str]) -> Image.Image:
        """Return the picture under the colours of its classes, with their names in the middle of where they are."""
        from PIL import Image, ImageDraw

        palette = np.array([color_of(index) for index in range(NO_CLASS)] + [(0, 0, 0)], np.uint8)
        colors = Image.fromarray(palette[self.classes])
        drawn = Image.blend(picture.convert("RGB"), colors, OPACITY)
        pen = ImageDraw.Draw(drawn)
        for index in self.shares:
            rows, columns = np.nonzero(self.classes == index)
            at = (float(np.median(columns)), float(np.median(rows)))
            write_text(pen, at, _name(index, labels), tuple(palette[index].tolist()))
        return drawn


def _name(index: int, labels: Sequence[str]) -> str:
    return "no class" if index == NO_CLASS else class_name(index, labels)
