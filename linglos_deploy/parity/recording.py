"""What a model answered, kept on disk, so that any number of candidates can be compared with it later.

A recording is a directory::

    recording.json               the index: who answered, digest of every sample's input, digest of every file
    outputs-00000.safetensors    the outputs of one batch
    outputs-00001.safetensors    ...

The first axis of each array counts samples, wherever the model has them; the index says where. One batch at a time is
in memory, however many there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from linglos_deploy.backends.base import Runner
from linglos_deploy.backends.images_first import ImagesFirstRunner, Places
from linglos_deploy.codec import read_json, write_json
from linglos_deploy.errors import ArtifactError, DataError
from linglos_deploy.files import atomic_directory, sha256_bytes
from linglos_deploy.graph.axes import ImagesAt, NotApart, Place
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.signature import Batch

SCHEMA = "linglos.recording/1"
INDEX = "recording.json"


@dataclass(frozen=True, slots=True)
class Answer:
    """One batch, and what a model answers to it.

    Attributes:
        inputs: Digest of each sample; see :func:`sample_digests`.
        batch: Returns the samples.
        outputs: Returns the answer; for one that is made here, this is what runs the model.
    """

    inputs: tuple[str, ...]
    batch: Callable[[], Batch]
    outputs: Callable[[], Batch]


Ask = Callable[[Runner, Iterable[Batch]], Iterator[Answer]]
"""Asks a model for its answers to all batches, in their order; it may have them given elsewhere."""


def ask_here(runner: Runner, batches: Iterable[Batch]) -> Iterator[Answer]:
    """Yield the answers that a model gives when it is run here."""
    for batch in batches:
        yield Answer(sample_digests(batch), lambda batch=batch: batch, partial(_run, runner, batch))  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class Shard:
    """The outputs of one batch.

    Attributes:
        file: Name of its file, inside the recording's directory.
        digest: SHA-256 of the file.
        inputs: Digest of the input of each sample; see :func:`sample_digests`.
        ids: Name of each sample, such as its path; empty if they have none.
    """

    file: str
    digest: str
    inputs: tuple[str, ...]
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Index:
    source: str
    outputs: tuple[str, ...]
    shards: tuple[Shard, ...]
    schema: str = SCHEMA
    places: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Axis, outer and inner of :class:`~linglos_deploy.graph.axes.ImagesAt`; nothing for an output without images."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Answers of one model.

    Attributes:
        path: The directory.
        source: Who answered, such as ``"PyTorch"``.
        outputs: Names of the outputs, in graph order.
        shards: One entry per batch, in the order of recording.
        places: Where the samples lie in the outputs of the model that answered, as far as that is known.
    """

    path: Path
    source: str
    outputs: tuple[str, ...]
    shards: tuple[Shard, ...] = field(repr=False)
    places: Places = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """How many samples were recorded."""
        return sum(len(shard.inputs) for shard in self.shards)

    @classmethod
    def load(cls, path: Path) -> Recording:
        """Open a recording; its files are checked when they are read.

        Raises:
            ArtifactError: The index is missing, damaged or of another version.
        """
        index = read_json(_Index, path / INDEX)
        outside = [shard.file for shard in index.shards if Path(shard.file).name != shard.file or shard.file == ".."]
        if index.schema != SCHEMA or outside:
            raise ArtifactError(
                f"The recording '{path}' cannot be read.",
                found=f"a file '{outside[0]}'" if outside else index.schema,
                expected="files inside its directory" if outside else SCHEMA,
                next_step="record the reference again",
            )
        places = {name: _place(numbers) for name, numbers in index.places.items()}
        return cls(path, index.source, index.outputs, index.shards, places)

    def batches(self) -> Iterator[tuple[Shard, Batch]]:
        """Yield every batch of outputs, with what is known about its inputs.

        Raises:
            ArtifactError: A file is missing or is not the one that was recorded.
        """
        from safetensors.numpy import load

        for shard in self.shards:
            file = self.path / shard.file
            try:
                data = file.read_bytes()
            except OSError as error:
                raise ArtifactError(f"'{file}' cannot be read.", found=error.strerror or str(error)) from error
            if sha256_bytes(data) != shard.digest:
                raise ArtifactError(
                    f"'{file}' is not the file that was recorded.",
                    found=f"SHA-256 {sha256_bytes(data)[:16]}…",
                    expected=f"SHA-256 {shard.digest[:16]}…",
                    next_step="record the reference again",
                )
            yield shard, load(data)


def record(
    runner: Runner,
    batches: Iterable[Batch],
    *,
    out: Path,
    source: str = "",
    ids: Sequence[str] = (),
    replace: bool = False,
    ask: Ask = ask_here,
    progress: Progress = SILENT,
) -> Recording:
    """Run a model on every batch and keep what it answers.

    Args:
        runner: The model; the first axis of each array that it takes and gives counts samples.
        batches: Its inputs.
        out: Directory of the recording.
        source: Who answers, for reports.
        ids: Names of all samples in order, such as paths; may be left out.
        replace: Whether a recording that is already there may be replaced.
        ask: How the answers come about.
        progress: Told of every batch.

    Raises:
        DataError: There are no batches, or fewer ids than samples.
        OutputError: ``out`` is taken or cannot be written.
    """
    from safetensors.numpy import save

    shards: list[Shard] = []
    seen = 0
    with atomic_directory(out, replace=replace) as partial, progress.stage("Recording") as advance:
        for answer in ask(runner, batches):
            inputs = answer.inputs
            outputs = {name: _storable(array) for name, array in answer.outputs().items()}
            data = save(outputs)
            file = f"outputs-{len(shards):05d}.safetensors"
            (partial / file).write_bytes(data)
            names = tuple(ids[seen : seen + len(inputs)])
            if ids and len(names) != len(inputs):
                raise DataError("There are more samples than ids.", found=f"{len(ids)} ids")
            shards.append(Shard(file, sha256_bytes(data), inputs, names))
            seen += len(inputs)
            advance()
        if not seen:
            raise DataError("There is nothing to record.", found="no batches", expected="at least one image")
        known = runner.places if isinstance(runner, ImagesFirstRunner) else {}
        places = {name: place for name, place in known.items() if place is not NotApart.MIXED}
        index = _Index(
            source=source,
            outputs=runner.signature.output_names,
            shards=tuple(shards),
            places={name: _numbers(place) for name, place in places.items()},
        )
        write_json(index, partial / INDEX)
    return Recording(out, source, index.outputs, index.shards, places)


def sample_digests(batch: Batch) -> tuple[str, ...]:
    """Return one SHA-256 per sample over its inputs' names, types, shapes and bytes; however it was batched."""
    digests = []
    for row in range(min((len(array) for array in batch.values()), default=0)):
        state = hashlib.sha256()
        for name in sorted(batch):
            values = np.ascontiguousarray(batch[name][row])
            state.update(f"{name} {values.dtype.name}{list(values.shape)}\n".encode())
            state.update(values.tobytes())
        digests.append(state.hexdigest())
    return tuple(digests)


def _run(runner: Runner, batch: Batch) -> Batch:
    """Return what a model answers, its arrays in the order of memory in which they travel, and are summed, anywhere."""
    return {name: np.asarray(array, order="C") for name, array in runner.run(batch).items()}


def _numbers(place: Place) -> tuple[int, ...]:
    return (place.axis, place.outer, place.inner) if isinstance(place, ImagesAt) else ()


def _place(numbers: Sequence[int]) -> Place:
    return ImagesAt(*numbers) if numbers else NotApart.SHARED


def _storable(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    values = array.astype(np.float32) if array.dtype.name == "bfloat16" else array  # NumPy itself has no bfloat16
    return np.ascontiguousarray(values)
