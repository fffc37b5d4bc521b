"""What a detector says about one picture: boxes in the picture's own pixels, best first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from linglos_deploy.tasks.drawing import class_name, color_of, write_text

if TYPE_CHECKING:
    from PIL import Image

LEAST_SCORE = 0.05
"""Boxes with lower scores are no detections; that is COCO's habit, and RetinaNet's."""

SHOWN_SCORE = 0.3
"""Boxes with lower scores are neither drawn nor listed; JSON has them."""


@dataclass(frozen=True, slots=True)
class Box:
    """One detection.

    Attributes:
        left: In pixels of the picture, from its left edge; 0 is the edge of the first pixel.
        top: Likewise, from its upper edge.
        right: Likewise.
        bottom: Likewise.
        score: 0 to 1.
        label: Index of its class.
    """

    left: float
    top: float
    right: float
    bottom: float
    score: float
    label: int


@dataclass(frozen=True, slots=True)
class Detected:
    """Everything found in one picture, best first."""

    boxes: tuple[Box, ...]

    @property
    def shown(self) -> tuple[Box, ...]:
        """The boxes that people are shown."""
        return tuple(box for box in self.boxes if box.score >= SHOWN_SCORE)

    def lines(self, labels: Sequence[str]) -> list[str]:
        """Return a line per box that is sure enough, and how many are not."""
        shown = self.shown
        faint = len(self.boxes) - len(shown)
        lines = [
            f"{class_name(box.label, labels)} {box.score:.2f}: {box.left:.1f}, {box.top:.1f} to"
            f" {box.right:.1f}, {box.bottom:.1f}"
            for box in shown
        ]
        return [*(lines or ["nothing"]), *([f"and {faint} below a score of {SHOWN_SCORE:g}"] if faint else [])]

    def facts(self, labels: Sequence[str]) -> dict[str, Any]:
        """Return every box."""
        return {
            "boxes": [
                {
                    "label": class_name(box.label, labels),
                    "index": box.label,
                    "score": box.score,
                    "box": [box.left, box.top, box.right, box.bottom],
                }
                for box in self.boxes
            ]
        }

    def draw(self, picture: Image.Image, labels: Sequence[str]) -> Image.Image:
        """Return the picture with the boxes that are sure enough, the best one on top."""
        from PIL import ImageDraw

        drawn = picture.convert("RGB")
        pen = ImageDraw.Draw(drawn)
        thick = max(1, min(picture.size) // 200)
        for box in reversed(self.shown):
            color = color_of(box.label)
            right, bottom = max(box.left, box.right - 1), max(box.top, box.bottom - 1)
            pen.rectangle((box.left, box.top, right, bottom), outline=color, width=thick)
            write_text(pen, (box.left, box.top), f"{class_name(box.label, labels)} {box.score:.2f}", color)
        return drawn
