"""Pictures with masks: ``images/`` and ``masks/`` side by side, a mask named like its picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.errors import DataError
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.tasks.kinds.segment.result import NO_CLASS
from linglos_deploy.tasks.pictures import PictureExamples

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMATS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
EXPECTED = "images/NAME.jpg (or .png) and masks/NAME.png, 8 bits, a class at each pixel, 255 where nobody says"


def open_masks(root: Path, spec: PreprocessSpec, classes: int | None) -> PictureExamples:
    """Open a folder of pictures and masks.

    Args:
        root: The folder that holds ``images`` and ``masks``.
        spec: How pictures become input.
        classes: How many classes the model has; ``None`` if that is not known.

    Raises:
        DataError: A folder is missing, a picture has no mask or a mask no picture, two have one name, or there is none.
    """
    pictures = _by_name(root / "images", root)
    masks = _by_name(root / "masks", root)
    alone = {
        "pictures without a mask": sorted(pictures.keys() - masks.keys()),
        "masks without a picture": sorted(masks.keys() - pictures.keys()),
    }
    for what, names in alone.items():
        if names:
            raise DataError(
                f"'{root}' has {what}.",
                found=f"{len(names)}: {', '.join(names[:5])}" + (", …" if len(names) > 5 else ""),
                expected=EXPECTED,
                next_step="add what is missing, or take the rest away",
            )
    names = sorted(pictures)
    paths = [masks[name] for name in names]
    unchecked = (
        () if classes is not None else ("The number of classes is not known; masks may hold any from 0 to 254.",)
    )
    return PictureExamples(
        paths=tuple(pictures[name] for name in names),
        ids=tuple(names),
        truth=lambda place, size: read_mask(paths[place], size, classes),
        spec=spec,
        warnings=unchecked,
    )


def read_mask(path: Path, size: tuple[int, int], classes: int | None) -> NDArray[np.uint8]:
    """Read a mask: uint8 of the picture's height and width.

    Args:
        path: The file: grey, or with a palette whose indices are the classes.
        size: Height and width of the picture.
        classes: How many classes there are; ``None`` if that is not known.

    Raises:
        DataError: It cannot be read, is coloured, of another size, or holds a class that there is not.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            mode, values = image.mode, np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"The mask '{path}' cannot be read.", found=str(error), expected=EXPECTED) from error
    if mode not in {"L", "P", "1"} or values.shape != size:
        raise DataError(
            f"The mask '{path}' does not fit its picture.",
            found=f"mode {mode}, {' x '.join(map(str, values.shape[:2]))}",
            expected=f"8-bit grey or palette, {size[0]} x {size[1]}",
            next_step="save the class of each pixel as Image.fromarray(classes.astype('uint8'))",
        )
    mask: NDArray[np.uint8] = values.astype(np.uint8)
    beyond = sorted(set(np.unique(mask).tolist()) - {NO_CLASS} - set(range(NO_CLASS if classes is None else classes)))
    if beyond:
        raise DataError(
            f"The mask '{path}' holds a class that the model does not have.",
            found=_few(beyond),
            expected=f"0 to {(classes or NO_CLASS) - 1}, or {NO_CLASS} where nobody says",
            next_step="number the classes as the model does, from 0",
        )
    return mask


def _by_name(folder: Path, root: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(
            f"There is no folder '{folder.name}' in '{root}'.",
            found=", ".join(sorted(path.name for path in root.iterdir())[:5]) if root.is_dir() else "no folder",
            expected=EXPECTED,
            next_step="pass the folder that holds both",
        )
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in FORMATS or not path.is_file():
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise DataError(
                f"Two files in '{folder}' have one name.",
                found=f"{found[name].name} and {path.name}",
                expected=EXPECTED,
                next_step="rename one of them",
            )
        found[name] = path
    if not found:
        raise DataError(f"There are no pictures in '{folder}'.", found="none", expected=EXPECTED)
    return found


def _few(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:5])) + (", …" if len(values) > 5 else "")
