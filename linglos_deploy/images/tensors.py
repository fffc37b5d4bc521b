"""Model input as it is: arrays by input name, of any number, rank and element type.

An ``.npz`` holds one array per input. Samples lie along the axis where the graph has its batch, the first one as a
rule; an array of an input without such an axis (a sampling rate, an initial state) goes to every sample as it is. One
array more may be called ``labels``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from linglos_deploy.errors import DataError, UsageError
from linglos_deploy.files import sha256_bytes, sha256_file
from linglos_deploy.images.arrays import StoredArray, check_finite, open_members, open_single
from linglos_deploy.images.digests import as_hex, combine, image_digest
from linglos_deploy.images.samples import AnyArray, Samples
from linglos_deploy.images.selection import chosen_places, shard_places
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.signature import Batch, ModelSignature

Axes = Mapping[str, int | None]
"""Along which axis of each input the samples lie; ``None`` for an input that is the same for all."""


class TensorSource(Protocol):
    """A place where samples of model input come from."""

    @property
    def axes(self) -> Axes:
        """Along which axis of each input the samples lie."""
        ...

    @property
    def ids(self) -> tuple[str, ...]:
        """A name for every sample."""
        ...

    @property
    def labels(self) -> tuple[int, ...] | None:
        """Class of every sample, if known."""
        ...

    @property
    def listing(self) -> str:
        """Digest of what is there, cheap, and equal wherever the same data are seen."""
        ...

    @property
    def synthetic(self) -> bool:
        """Whether the samples are made up."""
        ...

    def read(self, index: int) -> dict[str, AnyArray]:
        """Return one sample: the model's input for a batch of one.

        Raises:
            DataError: The sample cannot be read, or is not finite.
        """
        ...


@dataclass(frozen=True, slots=True)
class TensorDataset:
    """Samples of model input, a :class:`~linglos_deploy.images.samples.Dataset`.

    Attributes:
        source: Where they come from.
        selection: Which of them take part, and in which order.
        listing: Digest of the whole selection, before any split into shards.
        shards: Number of shards that the selection was split into.
        shard_index: Which of them this is, from 1.
    """

    source: TensorSource
    selection: tuple[int, ...]
    listing: str
    shards: int = 1
    shard_index: int = 1

    def __len__(self) -> int:
        return len(self.selection)

    @property
    def spec(self) -> None:
        """Nothing is known of images."""
        return None

    @property
    def ids(self) -> tuple[str, ...]:
        """Name of each sample."""
        names = self.source.ids
        return tuple(names[index] for index in self.selection)

    @property
    def labels(self) -> tuple[int, ...] | None:
        """Class index of each sample, ``None`` if unknown."""
        labels = self.source.labels
        return None if labels is None else tuple(labels[index] for index in self.selection)

    @property
    def class_names(self) -> tuple[str, ...]:
        """None."""
        return ()

    @property
    def synthetic(self) -> bool:
        """Whether the samples are made up."""
        return self.source.synthetic

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """Nothing: arrays are usable as a whole or not at all."""
        return ()

    @property
    def digest(self) -> str:
        """Digest of the set of samples, whatever their order; inputs that are the same for all do not count."""
        axes = self.source.axes
        samples = (self.source.read(index) for index in self.selection)
        arrays = (
            np.take(sample[name], 0, axis) for sample in samples for name, axis in axes.items() if axis is not None
        )
        return as_hex(combine(*(image_digest(array) for array in arrays)))

    def batches(self, batch_size: int, *, signature: ModelSignature | None = None, start: int = 0) -> Iterator[Batch]:
        """Yield the samples as model input; the last batch may be smaller."""
        for samples in self.samples(batch_size, signature=signature, start=start):
            yield samples.batch

    def samples(self, batch_size: int, *, signature: ModelSignature | None = None, start: int = 0) -> Iterator[Samples]:
        """Yield the same, with names.

        Args:
            batch_size: Samples per batch.
            signature: Of the model, which must have the same inputs.
            start: Place in the dataset of the first sample.

        Raises:
            DataError: The model has other inputs, or a sample cannot be read.
        """
        if batch_size < 1:
            raise UsageError("A batch holds an image or more.", found=str(batch_size), expected="1 or more")
        if signature is not None and set(signature.input_names) != set(self.source.axes):
            raise DataError(
                "The arrays are for a model with other inputs.",
                found=", ".join(self.source.axes),
                expected=", ".join(spec.describe() for spec in signature.inputs),
                next_step="give one array per input, called like it",
            )
        names = self.source.ids
        for first in range(start, len(self), batch_size):
            chosen = self.selection[first : first + batch_size]
            batch = _joined([self.source.read(index) for index in chosen], self.source.axes)
            yield Samples(batch, tuple(names[index] for index in chosen), first + len(chosen))

    def verified(self, *, progress: Progress = SILENT) -> TensorDataset:
        """Read everything once.

        Raises:
            DataError: A sample cannot be read, or is not finite.
        """
        with progress.stage("Checking arrays", len(self)) as advance:
            for index in self.selection:
                self.source.read(index)
                advance()
        return self

    def shard(self, index: int, count: int) -> TensorDataset:
        """Return shard ``index``, from 1, of ``count``; see :func:`~.selection.shard_places`."""
        split_before = None if self.shards == 1 else f"shard {self.shard_index}/{self.shards}"
        places = shard_places(self.selection, index, count, split_before=split_before)
        selection = tuple(self.selection[place] for place in places)
        return replace(self, selection=selection, shards=count, shard_index=index)

    def limit(self, count: int | None, *, seed: int = 0) -> TensorDataset:
        """Return at most ``count`` samples, a seeded choice; all if ``None``."""
        places = chosen_places(len(self), count, seed=seed)
        if places is None:
            return self
        listing = sha256_bytes(f"{self.listing}:{count} of {len(self)}:{seed}".encode())
        return replace(self, selection=tuple(self.selection[place] for place in places), listing=listing)


def whole(source: TensorSource) -> TensorDataset:
    """Return all samples of a source."""
    return TensorDataset(source, tuple(range(len(source.ids))), source.listing)


def open_tensors(
    path: Path, signature: ModelSignature, axes: Axes, *, rows: Mapping[str, int] | None = None
) -> TensorDataset:
    """Open an ``.npz`` of arrays by input name; a single array of another name feeds a single input.

    Args:
        path: The file.
        signature: Of the model.
        axes: Along which axis of each input the samples lie.
        rows: How many rows the table has that an integer input picks from; its values are held against that.

    Raises:
        DataError: The file is damaged, an input has no array, or one does not fit its input.
    """
    members, labels = open_members(path) if path.suffix.lower() == ".npz" else ({"": open_single(path)}, None)
    arrays = _by_input(path, members, signature)
    known: dict[str, tuple[str, int]] = {}
    for spec in signature.inputs:
        array = arrays[spec.name]
        axis = axes[spec.name]
        expected = [dim if isinstance(dim, int) and place != axis else None for place, dim in enumerate(spec.dims)]
        fits = len(array.shape) == len(expected) and all(
            wanted in (None, size) for wanted, size in zip(expected, array.shape, strict=True)
        )
        if not fits or array.dtype.name != spec.dtype:
            raise DataError(
                f"The array for input '{spec.name}' does not fit it.",
                found=f"{array.dtype.name}{list(array.shape)} in '{path}'",
                expected=spec.describe() + ("" if axis is None else f", samples along axis {axis}"),
                next_step=f"array.astype('{spec.dtype}')" if fits else "'linglos-deploy inspect' shows the inputs",
            )
        if axis is not None:
            known[spec.name] = (spec.name, array.shape[axis])
    counts = {count for _, count in known.values()} | ({len(labels)} if labels is not None else set())
    if len(counts) != 1 or 0 in counts:
        raise DataError(
            f"It is not clear how many samples '{path}' holds.",
            found=", ".join(f"{name} {count}" for name, count in known.values())
            + (f", labels {len(labels)}" if labels is not None else ""),
            expected="the same number, 1 or more, for every input and the labels",
        )
    return whole(
        StoredTensors(
            path=path,
            axes={spec.name: axes[spec.name] for spec in signature.inputs},
            labels=labels,
            count=counts.pop(),
            listing=_listing(path),
            rows=dict(rows or {}),
            arrays={
                name: array if axes[name] == 0 else array.whole()  # rows of other axes do not lie together in the file
                for name, array in arrays.items()
            },
        )
    )


@dataclass(frozen=True, slots=True)
class StoredTensors:
    """Samples in a file."""

    path: Path
    axes: Axes
    labels: tuple[int, ...] | None
    count: int
    listing: str
    arrays: Mapping[str, StoredArray | AnyArray]
    rows: Mapping[str, int] = field(default_factory=dict)

    @property
    def ids(self) -> tuple[str, ...]:
        """Names such as ``tokens.npz[7]``."""
        return tuple(f"{self.path.name}[{index}]" for index in range(self.count))

    @property
    def synthetic(self) -> bool:
        """They come from somewhere."""
        return False

    def read(self, index: int) -> dict[str, AnyArray]:
        """Read one sample; see :class:`TensorSource`."""
        sample = {name: _at(array, self.axes[name], index) for name, array in self.arrays.items()}
        for name, array in sample.items():
            check_finite(array, self.path, index)
            if name in self.rows:
                _check_rows(name, array, self.rows[name], sample=f"{self.path.name}[{index}]")
        return sample


def _check_rows(name: str, indices: AnyArray, rows: int, *, sample: str) -> None:
    """Check that indices pick rows that there are; negative ones count from the end, as in ONNX."""
    wrong = indices[(indices < -rows) | (indices >= rows)]
    if wrong.size:
        raise DataError(
            f"Sample '{sample}' picks rows that the model does not have.",
            found=f"{wrong.flat[0]} in '{name}', and {wrong.size - 1} more such values",
            expected=f"0 to {rows - 1}: '{name}' picks from a table of {rows} rows",
            next_step="use the tokenizer, or the numbering, that belongs to this model",
        )


def _listing(path: Path) -> str:
    if path.suffix.lower() != ".npz":
        return sha256_file(path)
    with zipfile.ZipFile(path) as archive:
        contents = sorted((entry.filename, entry.CRC, entry.file_size) for entry in archive.infolist())
    return sha256_bytes(repr(contents).encode())


def _by_input(path: Path, members: Mapping[str, StoredArray], signature: ModelSignature) -> dict[str, StoredArray]:
    names = signature.input_names
    if set(names) <= set(members):
        return {name: members[name] for name in names}
    others = [name for name in members if name not in ("labels", "label", "y")]
    if len(names) == len(others) == 1:
        return {names[0]: members[others[0]]}
    missing = [name for name in names if name not in members]
    raise DataError(
        f"'{path}' has no array for input '{missing[0]}'.",
        found=", ".join(members) or "no arrays",
        expected=", ".join(spec.describe() for spec in signature.inputs),
        next_step=f"numpy.savez(path, {', '.join(f'{name}=…' for name in names)})",
    )


def _at(array: StoredArray | AnyArray, axis: int | None, index: int) -> AnyArray:
    if isinstance(array, StoredArray):
        return array.row(index)[None]
    return array if axis is None else np.take(array, [index], axis)


def _joined(samples: list[dict[str, AnyArray]], axes: Axes) -> dict[str, AnyArray]:
    joined: dict[str, Any] = {}
    for name, axis in axes.items():
        arrays = [sample[name] for sample in samples]
        joined[name] = arrays[0] if axis is None else np.concatenate(arrays, axis)
    return joined
