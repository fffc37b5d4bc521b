"""Images in an ``.npz`` or ``.npy`` file, read row by row, so that the file may be larger than memory.

Two forms are taken: uint8 of shape N x H x W x C, pixels at the model's input size and in its colours; and float32,
normalized model input in the model's layout. Pickled objects are never read.
"""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from linglos_deploy.errors import DataError
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.images.sources import Skipped

if TYPE_CHECKING:
    from numpy.typing import NDArray

_IMAGE_KEYS = ("images", "image", "x")
_LABEL_KEYS = ("labels", "label", "y")
_MAX_LABELS = 1 << 26
_MAX_RATIO = 1040
"""Deflate cannot compress further than 1032 to 1; what claims more is lying about its size."""


@dataclass(frozen=True, slots=True)
class _Header:
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize


@dataclass(slots=True)
class StoredArray:
    """An array in a file, of which a row at a time is in memory.

    Attributes:
        path: The file.
        shape: Of the whole array.
        dtype: Of its elements.
    """

    path: Path
    _header: _Header
    _open: Callable[[], IO[bytes]]
    _stream: IO[bytes] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole array."""
        return self._header.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its elements."""
        return self._header.dtype

    def row(self, index: int) -> NDArray[Any]:
        """Read ``array[index]``.

        Raises:
            DataError: The file ends before, or has changed.
        """
        header = self._header
        with self._lock, _reading(self.path):
            if self._stream is None:
                self._stream = self._open()
            self._stream.seek(header.offset + index * header.row_bytes)
            data = self._stream.read(header.row_bytes)
        if len(data) < header.row_bytes:
            raise _unreadable(self.path, f"the data end within image {index} of {header.shape[0]}")
        return np.frombuffer(data, dtype=header.dtype).reshape(header.shape[1:])

    def whole(self) -> NDArray[Any]:
        """Read the whole array.

        Raises:
            DataError: The file ends before, or has changed.
        """
        header = self._header
        with _reading(self.path), self._open() as stream:
            stream.seek(header.offset)
            size = int(np.prod(header.shape, dtype=np.int64)) * header.dtype.itemsize
            data = stream.read(size)
        if len(data) < size:
            raise _unreadable(self.path, f"{len(data)} bytes of an array of {size}")
        return np.frombuffer(data, dtype=header.dtype).reshape(header.shape)


@dataclass(slots=True)
class ArraySource:
    """The images of one array in a file."""

    path: Path
    labels: tuple[int, ...] | None
    listing: str
    _stored: StoredArray

    @property
    def ids(self) -> tuple[str, ...]:
        """Names such as ``images.npz[7]``."""
        return tuple(f"{self.path.name}[{index}]" for index in range(self._stored.shape[0]))

    @property
    def class_names(self) -> tuple[str, ...]:
        """None."""
        return ()

    @property
    def skipped(self) -> Skipped:
        """Nothing: an array is usable as a whole or not at all."""
        return ()

    @property
    def normalized(self) -> bool:
        """Whether it holds float32 model input."""
        return self._stored.dtype == np.float32

    def read(self, index: int) -> NDArray[np.uint8] | NDArray[np.float32]:
        """Read one row; see :class:`~linglos_deploy.images.sources.ImageSource`."""
        row = self._stored.row(index)
        check_finite(row, self.path, index)
        return row


def check_finite(array: NDArray[Any], path: Path, index: int) -> None:
    """Check one sample of a file.

    Raises:
        DataError: It holds NaN or infinities.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(
            f"'{path}' holds values that are not finite.",
            found=f"{int(np.isnan(array).sum())} NaN and {int(np.isinf(array).sum())} infinite values in image {index}",
            expected=f"finite {array.dtype.name} values",
            next_step="find out where they come from; a model cannot be calibrated on them",
        )


def open_array(path: Path, spec: PreprocessSpec) -> ArraySource:
    """Read the header of an ``.npz`` or ``.npy`` file.

    Raises:
        DataError: The file is damaged, has no array of a supported form, or is cut short.
    """
    with _reading(path):
        if path.suffix.lower() == ".npz":
            with zipfile.ZipFile(path) as archive:
                names = [name.removesuffix(".npy") for name in archive.namelist()]
                stored = _member(path, archive, _pick_images(path, names))
                labels = read_labels(path, archive, names)
        else:
            stored, labels = open_single(path), None
        _check_form(path, stored, spec)
    if labels is not None and len(labels) != stored.shape[0]:
        raise DataError(
            f"'{path}' has another number of labels than of images.",
            found=f"{len(labels)} labels, {stored.shape[0]} images",
        )
    listing = hashlib.sha256(f"{stored.shape}{stored.dtype}{path.stat().st_size}".encode()).hexdigest()
    return ArraySource(path=path, labels=labels, listing=listing, _stored=stored)


def open_members(path: Path) -> tuple[dict[str, StoredArray], tuple[int, ...] | None]:
    """Read the headers of all arrays of an ``.npz`` file, and its labels, if an array is called so.

    Raises:
        DataError: The file is damaged, or an array of it is cut short or holds objects.
    """
    with _reading(path), zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        members = {name: _member(path, archive, name) for name in names}
        labels = read_labels(path, archive, names)
    return members, labels


def open_single(path: Path) -> StoredArray:
    """Read the header of an ``.npy`` file.

    Raises:
        DataError: The file is damaged, cut short or holds objects.
    """
    with _reading(path):
        return _stored(path, lambda: path.open("rb"), path.stat().st_size)


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> StoredArray:
    return _stored(path, _member_opener(path, name), _member_length(path, archive, name))


def _stored(path: Path, opener: Callable[[], IO[bytes]], length: int) -> StoredArray:
    with opener() as stream:
        header = _read_header(path, stream)
    _check_length(path, header, length)
    return StoredArray(path, header, opener)


def _pick_images(path: Path, names: list[str]) -> str:
    chosen = [name for name in _IMAGE_KEYS if name in names] or [name for name in names if name not in _LABEL_KEYS]
    if len(chosen) == 1 or (chosen and chosen[0] in _IMAGE_KEYS):
        return chosen[0]
    raise DataError(
        f"It is not clear which array of '{path}' holds the images.",
        found=", ".join(names) or "no arrays",
        expected="one array, or one called 'images'",
        next_step="numpy.savez(path, images=images)",
    )


def read_labels(path: Path, archive: zipfile.ZipFile, names: list[str]) -> tuple[int, ...] | None:
    """Read the labels of an ``.npz`` file; ``None`` if no array is called so.

    Raises:
        DataError: They are no integers, one per image.
    """
    key = next((name for name in _LABEL_KEYS if name in names), None)
    if key is None:
        return None
    with archive.open(f"{key}.npy") as stream:
        header = _read_header(path, stream)
        if len(header.shape) != 1 or header.dtype.kind not in "iu" or header.shape[0] > _MAX_LABELS:
            raise DataError(
                f"The labels of '{path}' cannot be used.",
                found=f"{header.dtype.name}{list(header.shape)}",
                expected="integers, one per image",
            )
        data = stream.read(header.shape[0] * header.dtype.itemsize)
    if len(data) != header.shape[0] * header.dtype.itemsize:
        raise _unreadable(path, "the labels are cut short")
    return tuple(np.frombuffer(data, dtype=header.dtype).tolist())


def _member_opener(path: Path, name: str) -> Callable[[], IO[bytes]]:
    def opener() -> IO[bytes]:
        return zipfile.ZipFile(path).open(f"{name}.npy")

    return opener


def _member_length(path: Path, archive: zipfile.ZipFile, name: str) -> int:
    length = archive.getinfo(f"{name}.npy").file_size
    if length > _MAX_RATIO * path.stat().st_size:
        raise _unreadable(path, f"an array of {length} bytes in a file of {path.stat().st_size}")
    return length


def _read_header(path: Path, stream: IO[bytes]) -> _Header:
    from numpy.lib import format as npy

    version = npy.read_magic(stream)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise _unreadable(path, f"format version {version[0]}.{version[1]}")
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise DataError(
            f"'{path}' holds pickled Python objects, which are never read: they could run any code.",
            found="an object array",
            expected="numbers",
            next_step="make all images the same size and save them as one numeric array",
        )
    if fortran and len(shape) > 1:
        raise DataError(
            f"'{path}' is stored column by column.",
            found="Fortran order",
            expected="C order",
            next_step="numpy.save(path, numpy.ascontiguousarray(images))",
        )
    return _Header(shape=tuple(int(size) for size in shape), dtype=dtype, offset=stream.tell())


def _check_form(path: Path, stored: StoredArray, spec: PreprocessSpec) -> None:
    height, width = spec.input_size
    shape, model_input = stored.shape, spec.input_shape()
    pixels = stored.dtype == np.uint8 and shape[1:] == (height, width, spec.channels)
    normalized = stored.dtype == np.dtype("<f4") and shape[1:] == model_input
    if len(shape) != 4 or not (pixels or normalized):
        raise DataError(
            f"'{path}' has no form that can be used.",
            found=f"{stored.dtype.name}{list(shape)}",
            expected=f"uint8[N, {height}, {width}, {spec.channels}] pixels or "
            f"float32[N, {', '.join(map(str, model_input))}] normalized input",
            next_step="convert the array, pass the size it has with --imgsz, or give a folder of images",
        )
    if shape[0] == 0:
        raise DataError(
            f"'{path}' holds no image.",
            found=f"{stored.dtype.name}{list(shape)}",
            expected="1 or more",
            next_step="check what wrote the file, or give a folder of images",
        )


def _check_length(path: Path, header: _Header, length: int) -> None:
    expected = header.offset + int(np.prod(header.shape, dtype=np.int64)) * header.dtype.itemsize
    if length < expected:
        raise _unreadable(path, f"{length} bytes where the header announces {expected}")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # NumPy and zipfile raise many kinds on damaged files
        raise _unreadable(path, str(error).strip() or type(error).__name__) from error


def _unreadable(path: Path, found: str) -> DataError:
    return DataError(
        f"'{path}' cannot be read as a NumPy file.",
        found=found.splitlines()[0],
        expected="a complete .npz or .npy file",
        next_step="save it again with numpy.save or numpy.savez",
    )
