"""A backbone: one map per stride, for a head that somebody else brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from linglos_deploy.images.preprocessing import Frame
from linglos_deploy.signature import Batch
from linglos_deploy.tasks.task import Decoding, Result, Settings, Shapes, Task

if TYPE_CHECKING:
    from PIL import Image

STRIDES = (4, 8, 16, 32)
"""Strides of LinGlo's four maps."""


@dataclass(frozen=True, slots=True)
class MapSummary:
    """What one output of a picture looks like: its name, its shape without the batch, and its spread."""

    name: str
    shape: tuple[int, ...]
    minimum: float
    mean: float
    maximum: float


@dataclass(frozen=True, slots=True)
class FeatureMaps:
    """What a backbone says about one picture.

    Attributes:
        summaries: Of each output.
        strongest: Mean magnitude over the channels of the finest map, float32 h x w; empty without maps.
    """

    summaries: tuple[MapSummary, ...]
    strongest: np.ndarray

    def lines(self, labels: Sequence[str]) -> list[str]:
        """Return a line per output."""
        return [
            f"{it.name} {'x'.join(map(str, it.shape))}: {it.minimum:.4g} to {it.maximum:.4g}, mean {it.mean:.4g}"
            for it in self.summaries
        ]

    def facts(self, labels: Sequence[str]) -> dict[str, Any]:
        """Return shape and spread of every output."""
        return {
            "outputs": [
                {
                    "name": it.name,
                    "shape": list(it.shape),
                    "minimum": it.minimum,
                    "mean": it.mean,
                    "maximum": it.maximum,
                }
                for it in self.summaries
            ]
        }

    def draw(self, picture: Image.Image, labels: Sequence[str]) -> Image.Image:
        """Return the finest map's magnitude, black to white, in the picture's size."""
        from PIL import Image

        if not self.strongest.size:
            return picture.copy()
        low, high = float(self.strongest.min()), float(self.strongest.max())
        grey = (self.strongest - low) / max(high - low, 1e-12) * 255
        return Image.fromarray(grey.astype(np.uint8)).resize(picture.size, Image.Resampling.BILINEAR)


def _name_outputs(shapes: Shapes, input_size: tuple[int, int], settings: Settings) -> tuple[str, ...]:
    if all(len(shape) == 4 for shape in shapes):
        names = tuple(f"features_{input_size[0] // shape[2]}" for shape in shapes)
        if len(set(names)) == len(names):
            return names
    return tuple(f"output_{position}" for position in range(len(shapes)))


def _roles(outputs: Mapping[str, tuple[int | None, ...]], settings: Settings) -> Mapping[str, str]:
    return {name: name for name in outputs}


def _decode(outputs: Batch, decoding: Decoding, frames: Sequence[Frame]) -> list[Result]:
    results: list[Result] = []
    for index in range(len(frames)):
        arrays = {name: np.asarray(outputs[output][index], np.float32) for name, output in decoding.outputs.items()}
        summaries = tuple(
            MapSummary(name, array.shape, float(array.min()), float(array.mean()), float(array.max()))
            for name, array in arrays.items()
        )
        maps = sorted((array for array in arrays.values() if array.ndim == 3), key=lambda it: -it.shape[-1])
        strongest = np.abs(maps[0]).mean(axis=0) if maps else np.empty((0, 0), np.float32)
        results.append(FeatureMaps(summaries, strongest))
    return results


features = Task(
    name="features",
    summary="a backbone with maps at strides 4, 8, 16 and 32",
    name_outputs=_name_outputs,
    roles=_roles,
    count_classes=lambda outputs, decoding: None,
    decode=_decode,
    outputs=lambda settings: tuple(f"features_{stride}" for stride in STRIDES),
    has_classes=False,
)
