"""Pictures of text, drawn from a seed: several sizes, colours and backgrounds, slanted, blurred and noisy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

TEXT = """
invoice total amount due date street number 48213 open daily 9-17 platform 4 gate B12 fragile keep dry exit price per
litre 1.799 serial A7-3391-X made in net weight 250 g best before 11/2027 caution hot surface please ring twice no entry
parking level 2 receipt table 14 thank you come again ticket adult single zone 3 valid
"""
WORDS = TEXT.split()


def text_picture(seed: int, *, height: int, width: int) -> Image.Image:
    """Return one picture, RGB."""
    random = np.random.default_rng(seed)
    picture = _background(random, height, width)
    for _ in range(int(random.integers(3, 10))):
        _write(picture, random)
    if random.random() < 0.4:
        picture = picture.filter(ImageFilter.GaussianBlur(float(random.uniform(0.4, 1.2))))
    noisy = np.asarray(picture, dtype=np.float32) + random.normal(0, random.uniform(0, 10), (height, width, 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def write_pictures(folder: Path, seeds: range, *, height: int, width: int) -> Path:
    """Write a picture for each seed as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        text_picture(seed, height=height, width=width).save(folder / f"{seed:04d}.png")
    return folder


def _background(random: np.random.Generator, height: int, width: int) -> Image.Image:
    """Return a gradient between two colours, on half of the pictures with plain areas of other colours on it."""
    corners = random.integers(90, 256, (2, 3)) if random.random() < 0.7 else random.integers(0, 120, (2, 3))
    ramp = np.linspace(0, 1, width)[None, :, None] * np.linspace(0.5, 1, height)[:, None, None]
    picture = Image.fromarray((corners[0] + (corners[1] - corners[0]) * ramp).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(random.integers(0, 4))):
        left, top = int(random.integers(0, width)), int(random.integers(0, height))
        box = (left, top, left + int(random.integers(20, width // 2)), top + int(random.integers(20, height // 2)))
        draw.rectangle(box, fill=tuple(int(value) for value in random.integers(0, 256, 3)))
    return picture


def _write(picture: Image.Image, random: np.random.Generator) -> None:
    """Write a line somewhere, light on dark or dark on light, perhaps slanted."""
    font = ImageFont.load_default(float(random.uniform(12, 48)))
    text = " ".join(random.choice(WORDS, int(random.integers(1, 5))))
    text = text.upper() if random.random() < 0.3 else text
    left, top, right, bottom = (int(side) for side in font.getbbox(text))
    layer = Image.new("L", (right - left + 8, bottom - top + 8))
    ImageDraw.Draw(layer).text((4 - left, 4 - top), text, font=font, fill=255)
    layer = layer.rotate(float(random.normal(0, 4)), Image.Resampling.BILINEAR, expand=True)
    x = int(random.integers(0, max(1, picture.width - layer.width // 2)))
    y = int(random.integers(0, max(1, picture.height - layer.height)))
    under = np.asarray(picture.crop((x, y, x + layer.width, y + layer.height)), dtype=np.float32).mean()
    ink = random.integers(0, 70, 3) if under > 110 else random.integers(190, 256, 3)
    picture.paste(tuple(int(value) for value in ink), (x, y), layer)
