"""Golden tensors: raw pixels, preprocessed input and every output, so that any loader can test itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from linglos_deploy.errors import ArtifactError
from linglos_deploy.files import atomic_file
from linglos_deploy.images.dataset import ImageDataset
from linglos_deploy.images.folder import FolderSource
from linglos_deploy.images.preprocessing import PreprocessSpec, decode_colors, normalize, to_pixels, to_rgb

ODD_SIZES = ((37, 91), (240, 135), (1, 1))
"""Heights and widths of the synthetic images that every set of golden tensors has, to exercise the resize."""


LONGEST_SIDE = 512
"""Real images are shrunk to this many pixels before they become golden, to keep bundles small."""


def real_images(images: ImageDataset, count: int) -> list[np.ndarray]:
    """Return up to ``count`` decoded images of a folder, uint8 H x W x 3 of their own sizes; none of other sources."""
    from PIL import Image

    if not isinstance(images.source, FolderSource):
        return []
    decoded = []
    for name in images.limit(count).ids:
        with Image.open(images.source.root / name) as image:
            rgb = to_rgb(image)
            rgb.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
            decoded.append(np.asarray(rgb))
    return decoded


def golden_images(spec: PreprocessSpec, real: Sequence[np.ndarray], *, seed: int = 0) -> list[np.ndarray]:
    """Return ``real`` images followed by seeded synthetic ones of odd sizes and of one plain size.

    Args:
        spec: The preprocessing; the plain image has its input size.
        real: uint8 arrays of shape (H, W, 3).
        seed: Seed of the synthetic images.
    """
    rng = np.random.default_rng(seed)
    synthetic = [
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in (*ODD_SIZES, spec.input_size)
    ]
    return [*real, *synthetic]


def preprocess_golden(images: Sequence[np.ndarray], spec: PreprocessSpec) -> dict[str, np.ndarray]:
    """Return ``pixels.i`` for every image, and ``pixels`` and ``image`` for all of them.

    Args:
        images: uint8 arrays of shape (H, W, 3), any sizes.
        spec: The preprocessing.

    Returns:
        ``pixels`` is uint8 N x H x W x C, ``image`` float32 N x C x H x W or N x H x W x C, by the preprocessing.
    """
    from PIL import Image

    pixels = np.stack([to_pixels(decode_colors(Image.fromarray(image), spec.color), spec) for image in images])
    raw = {f"pixels.{index}": image for index, image in enumerate(images)}
    return {**raw, "pixels": pixels, "image": normalize(pixels, spec)}


def write_golden(tensors: Mapping[str, np.ndarray], path: Path) -> None:
    """Write golden tensors as a safetensors file."""
    from safetensors.numpy import save

    with atomic_file(path) as partial:
        partial.write_bytes(save({name: np.ascontiguousarray(array) for name, array in tensors.items()}))


def read_golden(path: Path) -> dict[str, np.ndarray]:
    """Read golden tensors.

    Raises:
        ArtifactError: The file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise ArtifactError(
            f"'{path}' does not hold golden tensors.",
            found=str(error),
            expected="a safetensors file made by 'linglos-deploy export'",
            next_step="copy the bundle again from where it was made",
        ) from error
