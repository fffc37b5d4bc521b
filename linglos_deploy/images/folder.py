"""Images in a folder and its sub-folders.

Where every image lies in a sub-folder, and there are two sub-folders or more, their names are the classes, in sorted
order. EXIF orientation is not applied: training pipelines on Pillow (timm, torchvision) do not apply it either, and
neither does a program that is handed raw pixels.
"""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.errors import DataError
from linglos_deploy.images.preprocessing import PreprocessSpec, decode_colors, to_pixels
from linglos_deploy.images.sources import Skipped, UnusableImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

MAX_PIXELS = 1 << 27
"""Larger images are not decoded: 134 megapixels take 400 MB, and no camera makes them by accident."""

END_BYTES = 4096
"""Bytes at either end of a file that tell it from another one of the same name and size."""

_OPENING = threading.Lock()
"""Pillow warns of large images through Python's warning filters, which all threads share."""


@dataclass(frozen=True, slots=True)
class FolderSource:
    """The images of a folder, in the order of their relative paths."""

    root: Path
    spec: PreprocessSpec
    ids: tuple[str, ...]
    labels: tuple[int, ...] | None
    class_names: tuple[str, ...]
    skipped: Skipped
    listing: str

    @property
    def normalized(self) -> bool:
        """They become pixels."""
        return False

    def read(self, index: int) -> NDArray[np.uint8]:
        """Decode one image; see :class:`~linglos_deploy.images.sources.ImageSource`."""
        return decode(self.root / self.ids[index], self.spec)


def open_folder(root: Path, spec: PreprocessSpec) -> FolderSource:
    """List a folder; nothing is decoded yet, but files that are no images are told apart by their first bytes.

    Raises:
        DataError: The folder holds no file that could be an image.
    """
    images: list[tuple[str, int, str]] = []
    skipped: list[tuple[str, str]] = []
    for path in _walk(root):
        name = path.relative_to(root).as_posix()
        reason = _why_no_image(path)
        if reason is None:
            images.append((name, path.stat().st_size, _ends(path)))
        else:
            skipped.append((name, reason))
    if not images:
        raise DataError(
            f"There is no usable image in '{root}'.",
            found=_describe(skipped),
            expected="images that Pillow can read, such as PNG or JPEG, in this folder or below",
            next_step="pass the folder that holds the images with --data",
        )
    ids = tuple(name for name, _, _ in images)
    classes = _classes(ids)
    return FolderSource(
        root=root,
        spec=spec,
        ids=ids,
        labels=tuple(classes.index(name.split("/")[0]) for name in ids) if classes else None,
        class_names=classes,
        skipped=tuple(skipped),
        listing=hashlib.sha256(
            "\n".join(f"{name}\0{size}\0{ends}" for name, size, ends in images).encode()
        ).hexdigest(),
    )


def decode(path: Path, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """Decode one file to uint8 pixels of shape (H, W, C); the first frame of an animated one.

    Raises:
        UnusableImageError: It is no image, damaged, or too large.
    """
    try:
        with _open(path) as image:
            return to_pixels(decode_colors(image, spec.color), spec)
    except UnusableImageError:
        raise
    except (
        Exception
    ) as error:  # decoders raise nearly anything on damaged input: OSError, SyntaxError, struct.error ...
        raise UnusableImageError(f"damaged: {_first_line(error)}") from error


def read_picture(path: Path) -> Image.Image:
    """Decode one file as it is, in its own size and colours; the first frame of an animated one.

    Raises:
        DataError: It is missing, no image, damaged, or too large.
    """
    try:
        with _open(path) as image:
            image.load()
            return image.copy()
    except Exception as error:  # see decode
        raise DataError(
            f"'{path}' is no usable picture.",
            found=_first_line(error),
            expected="an image that Pillow can decode, such as PNG or JPEG",
            next_step="check the file",
        ) from error


def _walk(root: Path) -> Iterator[Path]:
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = Path(folder).resolve()
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(files) if not name.startswith("."))


def _why_no_image(path: Path) -> str | None:
    try:
        if not path.is_file():
            return "not a file"
        if path.stat().st_size == 0:
            return "empty file"
        with _open(path):
            return None
    except UnusableImageError as error:
        return str(error)
    except Exception as error:  # see decode
        return f"damaged: {_first_line(error)}"


def _ends(path: Path) -> str:
    """Return a digest of a file's first and last bytes: cheap, and it tells images of equal names and sizes apart."""
    with path.open("rb") as stream:
        head = stream.read(END_BYTES)
        stream.seek(max(len(head), path.stat().st_size - END_BYTES))
        return hashlib.sha256(head + stream.read(END_BYTES)).hexdigest()


def _open(path: Path) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    try:
        with _OPENING, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
    except UnidentifiedImageError as error:
        raise UnusableImageError("not an image that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise UnusableImageError(f"more than {MAX_PIXELS} pixels") from error
    except OSError as error:
        raise UnusableImageError(f"cannot be read: {_first_line(error)}") from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise UnusableImageError(f"{image.width} x {image.height} is more than {MAX_PIXELS} pixels")
    return image


def _classes(ids: tuple[str, ...]) -> tuple[str, ...]:
    if any("/" not in name for name in ids):
        return ()
    names = tuple(sorted({name.split("/")[0] for name in ids}))
    return names if len(names) > 1 else ()


def _describe(skipped: list[tuple[str, str]]) -> str:
    if not skipped:
        return "an empty folder"
    listed = "; ".join(f"{name} ({reason})" for name, reason in skipped[:3])
    return f"{len(skipped)} files that are no usable images: {listed}" + (" ..." if len(skipped) > 3 else "")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
