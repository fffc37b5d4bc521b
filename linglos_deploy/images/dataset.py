"""Images as model input: a folder, an ``.npz`` or an ``.npy`` file, or synthetic ones.

What is usable is used; the rest is listed in :attr:`ImageDataset.skipped`, each with a reason.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from linglos_deploy.errors import DataError, UsageError
from linglos_deploy.files import sha256_bytes
from linglos_deploy.images.arrays import open_array
from linglos_deploy.images.digests import as_hex, combine
from linglos_deploy.images.folder import open_folder
from linglos_deploy.images.layout import Layout, likely_layout
from linglos_deploy.images.preprocessing import PreprocessSpec, normalize
from linglos_deploy.images.records import ImageRecord, describe_image
from linglos_deploy.images.samples import Samples
from linglos_deploy.images.selection import chosen_places, shard_places
from linglos_deploy.images.sources import ImageArray, ImageSource, Skipped, SyntheticSource, UnusableImageError
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.signature import Batch, ModelSignature

if TYPE_CHECKING:
    from numpy.typing import NDArray

INPUT_NAME = "image"
ARRAY_FILES = (".npz", ".npy")
FLOATS = ("float32", "float16", "float64")

S = TypeVar("S")
T = TypeVar("T")


SYNTHETIC_IMAGES = 32
"""Made-up images where nobody gave real ones: enough to fill every range."""


@dataclass(frozen=True, slots=True)
class ImageDataset:
    """Images and how to preprocess them; immutable, so that parts of it can be handed out.

    Attributes:
        source: Where the images come from.
        spec: How they become model input.
        selection: Which images of the source take part, and in which order.
        listing: Digest of names, sizes and first and last bytes of the whole selection, before any split into shards.
        shards: Number of shards that the selection was split into.
        shard_index: Which of them this is, from 1.
        skipped: What was found but cannot be used, with reasons.
        records: What each image of the selection looks like, if all of them have been decoded.
    """

    source: ImageSource
    spec: PreprocessSpec
    selection: tuple[int, ...]
    listing: str
    shards: int = 1
    shard_index: int = 1
    skipped: Skipped = ()
    records: tuple[ImageRecord, ...] | None = None

    def __len__(self) -> int:
        return len(self.selection)

    @property
    def ids(self) -> tuple[str, ...]:
        """Name of each image."""
        names = self.source.ids
        return tuple(names[index] for index in self.selection)

    @property
    def labels(self) -> tuple[int, ...] | None:
        """Class index of each image, ``None`` if unknown."""
        labels = self.source.labels
        return None if labels is None else tuple(labels[index] for index in self.selection)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, empty if unknown."""
        return self.source.class_names

    @property
    def synthetic(self) -> bool:
        """Whether the images are made up."""
        return isinstance(self.source, SyntheticSource)

    @property
    def digest(self) -> str:
        """Digest of the set of images, whatever their order and names, after decoding and cropping."""
        records = self.verified().records
        assert records is not None
        return as_hex(combine(*(int(record.digest, 16) for record in records)))

    def batches(self, batch_size: int, *, signature: ModelSignature | None = None, start: int = 0) -> Iterator[Batch]:
        """Yield the images as model input, decoded in threads; the last batch may be smaller.

        Args:
            batch_size: Images per batch.
            signature: Of the model. Without it, batches hold ``image``, normalized float32.
            start: Place in the dataset of the first image.

        Raises:
            DataError: The model wants pixels and the data are normalized already, or is of another image size.
        """
        for samples in self.samples(batch_size, signature=signature, start=start):
            yield samples.batch

    def samples(self, batch_size: int, *, signature: ModelSignature | None = None, start: int = 0) -> Iterator[Samples]:
        """Yield the same as :meth:`batches`, with names; unusable images are left out and named."""
        if batch_size < 1:
            raise UsageError("A batch holds an image or more.", found=str(batch_size), expected="1 or more")
        form = input_form(signature)
        if form.dtype == "uint8" and self.source.normalized:
            raise DataError(
                "The model takes pixels, and the data are normalized already.",
                found="an array of float32",
                expected="uint8 N x H x W x C, or a folder of images",
                next_step="give the pixels, or a graph without embedded preprocessing",
            )
        names = self.source.ids
        group: list[ImageArray] = []
        ids: list[str] = []
        skipped: list[tuple[str, str]] = []
        for position, image in enumerate(self._images(self.selection[start:]), start + 1):
            image_id = names[self.selection[position - 1]]
            if isinstance(image, str):
                skipped.append((image_id, image))
            else:
                group.append(image)
                ids.append(image_id)
            if len(group) == batch_size or (position == len(self) and (group or skipped)):
                yield Samples({form.name: self._form(group, form)}, tuple(ids), position, tuple(skipped))
                group, ids, skipped = [], [], []

    def verified(self, *, progress: Progress = SILENT) -> ImageDataset:
        """Decode everything once; return the dataset without what turned out to be unusable.

        Raises:
            DataError: No image is usable.
        """
        if self.records is not None:
            return self
        names = self.source.ids
        kept: list[int] = []
        records: list[ImageRecord] = []
        skipped = list(self.skipped)

        def describe(index: int) -> ImageRecord:
            return describe_image(names[index], self.source.read(index), self.spec)

        with progress.stage("Checking images", len(self)) as advance:
            for index, seen in zip(self.selection, self._in_threads(describe, self.selection), strict=True):
                if isinstance(seen, str):
                    skipped.append((names[index], seen))
                else:
                    kept.append(index)
                    records.append(seen)
                advance()
        if not kept:
            raise _nothing_usable(skipped)
        return replace(self, selection=tuple(kept), records=tuple(records), skipped=tuple(skipped))

    def shard(self, index: int, count: int) -> ImageDataset:
        """Return shard ``index``, from 1, of ``count``: every ``count``-th image of the source.

        An image lies in the same shard whether or not damaged ones were sorted out before.

        Raises:
            UsageError: ``index`` is not in 1 ... ``count``, there are fewer images, or this is a shard already.
        """
        split_before = None if self.shards == 1 else f"shard {self.shard_index}/{self.shards}"
        places = shard_places(self.selection, index, count, split_before=split_before)
        return replace(
            self,
            selection=tuple(self.selection[place] for place in places),
            records=None if self.records is None else tuple(self.records[place] for place in places),
            shards=count,
            shard_index=index,
        )

    def limit(self, count: int | None, *, seed: int = 0) -> ImageDataset:
        """Return at most ``count`` images, a seeded choice spread over the whole dataset; all if ``None``."""
        places = chosen_places(len(self), count, seed=seed)
        if places is None:
            return self
        return replace(
            self,
            selection=tuple(self.selection[place] for place in places),
            records=None if self.records is None else tuple(self.records[place] for place in places),
            listing=sha256_bytes(f"{self.listing}:{count} of {len(self)}:{seed}".encode()),
        )

    def _form(self, group: Sequence[ImageArray], form: InputForm) -> ImageArray:
        one = self.spec.input_shape() if self.source.normalized else (*self.spec.input_size, self.spec.channels)
        stacked = np.stack(cast("list[NDArray[np.uint8]]", group)) if group else np.empty((0, *one), dtype=np.uint8)
        if form.dtype == "uint8":
            return stacked if form.layout is Layout.NHWC else np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))
        normalized = stacked if self.source.normalized else normalize(stacked, self.spec)
        return cast("ImageArray", normalized.astype(form.dtype, copy=False))

    def _images(self, selection: Sequence[int]) -> Iterator[ImageArray | str]:
        return self._in_threads(self.source.read, selection)

    def _in_threads(self, work: Callable[[int], T], selection: Sequence[int]) -> Iterator[T | str]:
        def careful(index: int) -> T | str:
            try:
                return work(index)
            except UnusableImageError as error:
                return str(error)

        return _map_in_threads(careful, selection)


def open_dataset(path: Path, spec: PreprocessSpec, *, verify: bool = True, progress: Progress = SILENT) -> ImageDataset:
    """Open a folder of images, an ``.npz`` or an ``.npy`` file.

    Args:
        path: Where the images are; see :mod:`.folder` and :mod:`.arrays` for the forms that are taken.
        spec: How they become model input.
        verify: Whether to decode every image once, so that length, labels and :attr:`ImageDataset.skipped` are final.
            Without it, damaged images only show while batches are made.
        progress: Told of every decoded image, and warned of what was skipped.

    Raises:
        DataError: The path is missing, or nothing there is usable.
    """
    source: ImageSource
    if path.is_dir():
        source = open_folder(path, spec)
    elif path.suffix.lower() in ARRAY_FILES and path.is_file():
        source = open_array(path, spec)
    else:
        raise DataError(
            f"There are no images at '{path}'.",
            found="a file of another kind" if path.exists() else "nothing",
            expected="a folder of images, an .npz or an .npy file",
            next_step="pass such a path with --data",
        )
    dataset = _whole(source, spec)
    dataset = dataset.verified(progress=progress) if verify else dataset
    warn_of_skipped(dataset.skipped, progress=progress)
    return dataset


def synthetic_dataset(spec: PreprocessSpec, count: int = 32, seed: int = 0) -> ImageDataset:
    """Return seeded images that are made up: good for graphs and latency, useless for accuracy."""
    return _whole(SyntheticSource(spec, count, seed), spec)


def warn_of_skipped(skipped: Skipped, *, progress: Progress) -> None:
    """Name up to three files that were left out."""
    if skipped:
        named = "; ".join(f"{name}: {reason}" for name, reason in skipped[:3])
        progress.warn(f"{len(skipped)} files are left out: {named}" + (" ..." if len(skipped) > 3 else ""))


@dataclass(frozen=True, slots=True)
class InputForm:
    """How a model takes images.

    Attributes:
        name: Of its input.
        dtype: ``"uint8"`` for pixels, else the element type of normalized values.
        layout: Order of the axes of pixels; normalized values follow the preprocessing.
    """

    name: str
    dtype: str
    layout: Layout


def input_form(signature: ModelSignature | None) -> InputForm:
    """Return how a model takes images.

    Raises:
        DataError: The model does not have exactly one input, of four axes, of floating-point numbers or bytes.
    """
    if signature is None:
        return InputForm(INPUT_NAME, "float32", Layout.NCHW)
    layout = likely_layout(signature.inputs[0])
    if len(signature.inputs) != 1 or layout is None or signature.inputs[0].dtype not in (*FLOATS, "uint8"):
        raise DataError(
            "Images can only feed a model that has one input, of images.",
            found=", ".join(spec.describe() for spec in signature.inputs),
            expected="one input of four axes: floating-point numbers, or bytes",
            next_step="give arrays by input name in an .npz with --data",
        )
    return InputForm(signature.inputs[0].name, signature.inputs[0].dtype, layout)


def _whole(source: ImageSource, spec: PreprocessSpec) -> ImageDataset:
    return ImageDataset(
        source=source,
        spec=spec,
        selection=tuple(range(len(source.ids))),
        listing=source.listing,
        skipped=source.skipped,
    )


def _map_in_threads(work: Callable[[S], T], items: Sequence[S]) -> Iterator[T]:
    """Yield ``work(item)`` in order, with a few items in the works at a time, whatever their number."""
    workers = min(8, os.cpu_count() or 1)
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _nothing_usable(skipped: Sequence[tuple[str, str]]) -> DataError:
    return DataError(
        "No image is usable.",
        found="; ".join(f"{name}: {reason}" for name, reason in skipped[:3]) + (" ..." if len(skipped) > 3 else ""),
        expected="one image or more that Pillow can decode",
        next_step="look at the files named above",
    )
