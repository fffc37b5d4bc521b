"""The sizes of the family. A variant is only a name for a default; a checkpoint may carry its own."""

from __future__ import annotations

from dataclasses import dataclass

from linglos_deploy.errors import UsageError


@dataclass(frozen=True, slots=True)
class LinGloConfig:
    """Sizes of a LinGlo model.

    Attributes:
        dims: Channels of the four stages, each a multiple of 16; the head count of a stage is channels / 32.
        depths: Pairs of a convolution and an attention layer, per stage.
        num_classes: Outputs of the classifier.
        image_size: Height and width that the model was trained at, in pixels.
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


VARIANTS = {
    "t": LinGloConfig(dims=(32, 64, 128, 192), depths=(1, 1, 3, 1)),
    "s": LinGloConfig(dims=(32, 64, 160, 256), depths=(1, 2, 5, 2)),
    "m": LinGloConfig(dims=(48, 96, 192, 384), depths=(2, 2, 6, 2)),
    "b": LinGloConfig(dims=(64, 128, 256, 512), depths=(2, 3, 9, 3)),
}
