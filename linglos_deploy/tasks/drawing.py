"""What tasks share when they put a result on a picture: names, colours, and text that can be read on anything."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

GOLDEN_ANGLE = 0.6180339887498949
"""Turn of the hue from one class to the next: any number of classes in a row are far apart."""


def class_name(index: int, labels: Sequence[str]) -> str:
    """Return the name of a class, or its number where it has no name.

    >>> class_name(1, ("ant", "bee")), class_name(1, ())
    ('bee', 'class 1')
    """
    return labels[index] if 0 <= index < len(labels) else f"class {index}"


def color_of(index: int) -> tuple[int, int, int]:
    """Return a class's colour, always the same one, red, green and blue from 0 to 255."""
    red, green, blue = colorsys.hsv_to_rgb(index * GOLDEN_ANGLE % 1, 0.75, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def banner(picture: Image.Image, text: str) -> Image.Image:
    """Return a copy of the picture, in RGB, with a line of text at its upper edge."""
    from PIL import ImageDraw

    drawn = picture.convert("RGB")
    write_text(ImageDraw.Draw(drawn), (0, 0), text, (0, 0, 0))
    return drawn


def write_text(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, background: tuple[int, int, int]) -> None:
    """Write text on a box of a colour, black or white, whichever stands out more."""
    left, top, right, bottom = draw.textbbox(at, text)
    draw.rectangle((left - 2, top - 1, right + 2, bottom + 1), fill=background)
    bright = 0.299 * background[0] + 0.587 * background[1] + 0.114 * background[2] > 128
    draw.text(at, text, fill=(0, 0, 0) if bright else (255, 255, 255))
