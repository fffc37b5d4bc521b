"""Where height, width and channels lie in a tensor of images."""

from __future__ import annotations

from linglos_deploy.compat import StrEnum
from linglos_deploy.signature import TensorSpec

CHANNEL_COUNTS = (1, 3, 4)
"""Grey, colour, and colour with transparency: the only sizes that tell an axis of channels from one of pixels."""


class Layout(StrEnum):
    """Order of the axes of a batch of images."""

    NCHW = "nchw"
    NHWC = "nhwc"

    @property
    def channel_axis(self) -> int:
        """Which axis holds the channels."""
        return 1 if self is Layout.NCHW else 3

    @property
    def spatial_axes(self) -> tuple[int, int]:
        """Which axes hold height and width."""
        return (2, 3) if self is Layout.NCHW else (1, 2)


def layout_of(spec: TensorSpec) -> Layout | None:
    """Return the layout that a model's input has by its shape: ``None`` if it is none of images, or open.

    >>> layout_of(TensorSpec("x", "float32", ("n", "h", "w", 3)))
    <Layout.NHWC: 'nhwc'>
    """
    if spec.shape is None or len(spec.shape) != 4:
        return None
    _, first, middle, last = spec.shape
    if first in CHANNEL_COUNTS and last not in CHANNEL_COUNTS:
        return Layout.NCHW
    if last in CHANNEL_COUNTS and first not in CHANNEL_COUNTS and middle not in CHANNEL_COUNTS:
        return Layout.NHWC  # N x 64 x 4 x 4 is a map of features, not a picture 64 high and 4 wide
    return None


def likely_layout(spec: TensorSpec) -> Layout | None:
    """Return the same, and where the shape leaves it open, channels last for bytes and first for all others."""
    if spec.shape is None or len(spec.shape) != 4:
        return None
    return layout_of(spec) or (Layout.NHWC if spec.dtype == "uint8" else Layout.NCHW)
