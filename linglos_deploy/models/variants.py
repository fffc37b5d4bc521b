"""The sizes of the family. A variant is only a name for a default; a checkpoint may carry its own."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from linglos_deploy.errors import UsageError

HEAD_DIM = 32
STRIDES = (4, 8, 16, 32)
"""Strides of the four stages; the image must be a multiple of the largest."""


@dataclass(frozen=True, slots=True)
class LinGloConfig:
    """Sizes of a LinGlo model.

    Attributes:
        dims: Channels of the four stages, each of which its heads must divide; the first one is even.
        depths: Pairs of a convolution and an attention layer, per stage.
        num_classes: Outputs of the classifier.
        image_size: Side of the square images it takes unless told otherwise, in pixels.
    """

    dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    num_classes: int = 1000
    image_size: int = 224

    def __post_init__(self) -> None:
        object.__setattr__(self, "dims", tuple(self.dims))
        object.__setattr__(self, "depths", tuple(self.depths))
        if len(self.dims) != 4 or len(self.depths) != 4 or min(self.dims + self.depths) < 1:
            raise UsageError("A LinGlo has four stages.", found=f"dims {self.dims}, depths {self.depths}")
        if self.dims[0] % 2 or any(dim % head_count(dim) for dim in self.dims):
            raise UsageError(
                "The channels of a stage cannot be shared out among its heads.",
                found=f"dims {self.dims}",
                expected=f"an even first stage; multiples of {HEAD_DIM} always fit",
            )
        if self.num_classes < 1:
            raise UsageError("A classifier needs classes.", found=f"num_classes {self.num_classes}")


def head_count(dim: int) -> int:
    """Return the number of attention heads at ``dim`` channels: one per 32, at least one."""
    return max(1, dim // HEAD_DIM)


VARIANTS = {
    "t": LinGloConfig(dims=(32, 64, 128, 192), depths=(1, 1, 3, 1)),
    "s": LinGloConfig(dims=(32, 64, 160, 256), depths=(1, 2, 5, 2)),
    "m": LinGloConfig(dims=(48, 96, 192, 384), depths=(2, 2, 6, 2)),
    "b": LinGloConfig(dims=(64, 128, 256, 512), depths=(2, 3, 9, 3)),
    "b0": LinGloConfig(dims=(32, 64, 160, 256), depths=(2, 4, 3, 1)),
    "b1": LinGloConfig(dims=(64, 128, 320, 512), depths=(2, 4, 3, 1)),
    "b2": LinGloConfig(dims=(64, 128, 320, 512), depths=(3, 4, 5, 3)),
}
"""``b0``, ``b1`` and ``b2`` have the paper's parameter counts, 3.4, 13.1 and 25.4 million, within 3 %. Their channels
are those of PVTv2, whose counts they share; their depths are a reading of this project: the layout is not known."""

OTHER_NAMES = {"nano": "t", "tiny": "t", "small": "s", "medium": "m", "base": "b", "large": "b"}


def variant_config(name: str) -> LinGloConfig:
    """Return the sizes of a variant.

    Raises:
        UsageError: There is no such variant; the message offers the nearest one.
    """
    if name in VARIANTS:
        return VARIANTS[name]
    raise UsageError(
        f"There is no variant '{name}'.",
        found=f"'{name}'",
        expected=", ".join(VARIANTS),
        next_step=f"did you mean '--variant {_nearest_name(name)}'?",
    )


def _nearest_name(name: str) -> str:
    plain = name.lower().removeprefix("linglo").strip("s_-. ") or name.lower()[-1:]
    if plain in VARIANTS:
        return plain
    close = difflib.get_close_matches(plain, OTHER_NAMES, n=1, cutoff=0.4)
    return OTHER_NAMES[close[0]] if close else "s"
