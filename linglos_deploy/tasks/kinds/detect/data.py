"""COCO's JSON: pictures with boxes; https://cocodataset.org/#format-data, "object detection"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from linglos_deploy.errors import DataError
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.tasks.pictures import PictureExamples

EXPECTED = "COCO's JSON (images, annotations, categories), with the pictures in 'images' beside it or where it lies"


class _Picture(msgspec.Struct):
    id: int
    file_name: str
    height: int | None = None
    width: int | None = None


class _Annotation(msgspec.Struct):
    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float | None = None
    iscrowd: int = 0


class _Category(msgspec.Struct):
    id: int
    name: str


class _Coco(msgspec.Struct):
    images: list[_Picture]
    annotations: list[_Annotation]
    categories: list[_Category]


@dataclass(frozen=True, slots=True)
class TrueBox:
    """An object of the truth.

    Attributes:
        box: Left, top, width and height in pixels of the picture, as COCO has them.
        label: Index of its class among the model's.
        area: By which COCO tells small from large.
        crowd: Whether it stands for many that nobody told apart: boxes in it are neither right nor wrong.
    """

    box: tuple[float, float, float, float]
    label: int
    area: float
    crowd: bool


def open_coco(path: Path, spec: PreprocessSpec, labels: Sequence[str]) -> PictureExamples:
    """Open COCO's JSON, or a folder with one in it.

    Args:
        path: The file, or a folder that holds one ``.json``, or has one in ``annotations``.
        spec: How pictures become input.
        labels: The model's class names, empty if it knows none.

    Raises:
        DataError: The file is none of COCO's, a picture is missing, an annotation is about a picture or category that
            there is not, a category is none of the model's classes, or there are no objects at all.
    """
    file = _find(path)
    content = _read(file)
    folder = file.parent
    if not (folder / "images").is_dir() and (folder.parent / "images").is_dir() and folder.name == "annotations":
        folder = folder.parent
    root = folder / "images" if (folder / "images").is_dir() else folder
    missing = [it.file_name for it in content.images if not (root / it.file_name).is_file()]
    if missing:
        raise _error(file, "names pictures that are not there", missing, f"files in '{root}'")
    pictures = {it.id for it in content.images}
    strangers = [str(it.id) for it in content.annotations if it.image_id not in pictures]
    if strangers:
        raise _error(file, "has annotations of pictures that it does not name", strangers, "image_id of an image")
    index = _classes(file, content, labels)
    unknown = [str(it.id) for it in content.annotations if it.category_id not in index]
    if unknown:
        raise _error(file, "has annotations of categories that it does not name", unknown, "category_id of a category")
    flat = [it for it in content.annotations if it.bbox[2] <= 0 or it.bbox[3] <= 0]
    truths: dict[int, list[TrueBox]] = {it.id: [] for it in content.images}
    for it in content.annotations:
        if it not in flat:
            area = it.bbox[2] * it.bbox[3] if it.area is None else it.area
            truths[it.image_id].append(TrueBox(it.bbox, index[it.category_id], area, bool(it.iscrowd)))
    if not any(truths.values()):
        raise DataError(
            f"'{file}' holds no objects.",
            found=f"{len(content.images)} pictures, {len(content.annotations)} annotations, none with an area",
            expected="a box or more",
            next_step="check the file",
        )
    rows = tuple(tuple(truths[it.id]) for it in content.images)
    return PictureExamples(
        paths=tuple(root / it.file_name for it in content.images),
        ids=tuple(it.file_name for it in content.images),
        truth=lambda place, size: rows[place],
        spec=spec,
        warnings=tuple(_warnings(content, flat, rows)),
    )


def _warnings(content: _Coco, flat: Sequence[_Annotation], rows: Sequence[Sequence[TrueBox]]) -> list[str]:
    warnings = []
    if flat:
        warnings.append(f"{len(flat)} boxes without an area are left out: annotations {_few([it.id for it in flat])}.")
    sizes = {it.id: (it.width, it.height) for it in content.images}
    beyond = [it.id for it in content.annotations if it not in flat and _beyond(it, *sizes[it.image_id])]
    if beyond:
        warnings.append(f"{len(beyond)} boxes reach out of their pictures, and are judged so: {_few(beyond)}.")
    empty = sum(not row for row in rows)
    if empty:
        warnings.append(f"{empty} of {len(rows)} pictures hold no object; whatever is found there is wrong.")
    return warnings


def _beyond(it: _Annotation, width: int | None, height: int | None) -> bool:
    left, top, wide, tall = it.bbox
    slack = 1.0  # COCO's own boxes are rounded
    return (
        left < -slack
        or top < -slack
        or (width is not None and left + wide > width + slack)
        or (height is not None and top + tall > height + slack)
    )


def _classes(file: Path, content: _Coco, labels: Sequence[str]) -> Mapping[int, int]:
    """Return the model's class of every category: by name where the model knows names, else in the order of ids."""
    if not labels:
        return {it.id: place for place, it in enumerate(sorted(content.categories, key=lambda it: it.id))}
    used = {it.category_id for it in content.annotations}
    unknown = [it.name for it in content.categories if it.name not in labels and it.id in used]
    if unknown:
        raise _error(file, "has a category that the model does not know", unknown, ", ".join(labels[:10]))
    return {it.id: list(labels).index(it.name) for it in content.categories if it.name in labels}


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(path.glob("*.json")) or sorted((path / "annotations").glob("*.json"))
    if len(found) != 1:
        raise DataError(
            f"It is not clear which file in '{path}' says what is in the pictures.",
            found=", ".join(it.name for it in found) or "no .json",
            expected=EXPECTED,
            next_step="name the file itself with --data",
        )
    return found[0]


def _read(file: Path) -> _Coco:
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Coco)
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(
            f"'{file}' is not COCO's JSON of boxes.",
            found=str(error),
            expected=EXPECTED,
            next_step="see https://cocodataset.org/#format-data",
        ) from error


def _error(file: Path, what: str, names: Sequence[str], expected: str) -> DataError:
    return DataError(
        f"'{file}' {what}.",
        found=f"{len(names)}: {_few(names)}",
        expected=expected,
        next_step="correct the file",
    )


def _few(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values[:5])) + (", …" if len(values) > 5 else "")
