"""Picture files as a model's input, together with where each picture lies in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from linglos_deploy.images.dataset import input_form
from linglos_deploy.images.folder import read_picture
from linglos_deploy.images.layout import Layout
from linglos_deploy.images.preprocessing import Frame, PreprocessSpec, decode_colors, frame_of, normalize, to_pixels
from linglos_deploy.signature import Batch, ModelSignature
from linglos_deploy.tasks.task import Group

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image


@dataclass(frozen=True, slots=True)
class PictureExamples:
    """Picture files of which the truth is known.

    Attributes:
        paths: The files.
        ids: What each is called.
        truth: Reads what is known of one, by its place.
        spec: How they become input.
        warnings: What was left out or taken for granted.
    """

    paths: tuple[Path, ...]
    ids: tuple[str, ...]
    truth: Callable[[int, tuple[int, int]], Any]
    spec: PreprocessSpec
    warnings: tuple[str, ...] = ()

    def groups(self, size: int, signature: ModelSignature) -> Iterator[Group]:
        """Yield them; see :class:`~linglos_deploy.tasks.task.Examples`."""
        for start in range(0, len(self.paths), size):
            places = range(start, min(start + size, len(self.paths)))
            pictures = [read_picture(self.paths[place]) for place in places]
            batch, frames = as_input(pictures, self.spec, signature)
            truths = tuple(
                self.truth(place, (picture.height, picture.width))
                for place, picture in zip(places, pictures, strict=True)
            )
            yield Group(batch, tuple(self.ids[place] for place in places), frames, truths)


def as_input(
    pictures: Sequence[Image.Image], spec: PreprocessSpec, signature: ModelSignature
) -> tuple[Batch, tuple[Frame, ...]]:
    """Return pictures in the form that a model takes, and where each lies in it.

    Args:
        pictures: Decoded pictures of any sizes and colours.
        spec: How they become input.
        signature: Of the model: float32 values, or pixels.

    Raises:
        DataError: The model takes no pictures.
    """
    form = input_form(signature)
    pixels: NDArray[np.uint8] = np.stack([to_pixels(decode_colors(picture, spec.color), spec) for picture in pictures])
    frames = tuple(frame_of(picture.height, picture.width, spec) for picture in pictures)
    if form.dtype == "uint8":
        return {form.name: pixels if form.layout is Layout.NHWC else pixels.transpose(0, 3, 1, 2).copy()}, frames
    return {form.name: normalize(pixels, spec).astype(form.dtype, copy=False)}, frames
