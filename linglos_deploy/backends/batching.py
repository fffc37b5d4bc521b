"""Graphs of a fixed batch size, fed with any number of images: split, padded and put together again.

Only checks use this. A profile measures the batch that the graph has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.artifacts import Artifact
from linglos_deploy.backends.base import CPU, Device, Runner, Runtime
from linglos_deploy.errors import DataError
from linglos_deploy.graph.axes import ImagesAt, InputAxes, NotApart, Place, input_axes
from linglos_deploy.graph.find_places import copied, places_in_fixed_batch
from linglos_deploy.signature import Batch, ModelSignature

if TYPE_CHECKING:
    from numpy.typing import NDArray


class AnyBatch:
    """A runtime whose runners take any number of images, whatever batch size the graph was exported with.

    Args:
        runtime: What really runs.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.name = runtime.name
        self.runtime = runtime

    @contextmanager
    def open(self, artifact: Artifact, *, device: Device = CPU) -> Iterator[Runner]:
        """Open an artifact; see :class:`~linglos_deploy.backends.base.Runtime`."""
        with self.runtime.open(artifact, device=device) as runner:
            inputs = input_axes(runner.signature)
            yield runner if inputs.batch is None else _InPieces(runner, inputs, inputs.batch)


class _InPieces:
    """Runs ``size`` images at a time; what is missing from the last piece repeats its last image."""

    def __init__(self, runner: Runner, inputs: InputAxes, size: int) -> None:
        self._runner = runner
        self._inputs = inputs
        self._size = size
        self._places: dict[tuple[tuple[int, ...], ...], dict[str, Place]] = {}

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs of the graph."""
        return self._runner.signature

    def run(self, batch: Batch) -> Batch:
        """Run a batch of any size; see :class:`~linglos_deploy.backends.base.Runner`.

        Raises:
            DataError: The images of an output cannot be told apart, so that those of several runs make no whole.
        """
        count = self._inputs.count(batch)
        if count == self._size:
            return self._runner.run(batch)
        pieces = [self._run_piece(batch, start, count) for start in range(0, count, self._size)]
        places = self._places_for(batch, pieces[0])
        return {name: self._put_together(name, places[name], pieces, count) for name in self.signature.output_names}

    def _run_piece(self, batch: Batch, start: int, count: int) -> dict[str, np.ndarray]:
        images = np.minimum(np.arange(start, start + self._size), count - 1).tolist()
        return copied(self._runner.run(self._inputs.pick(batch, images)))

    def _places_for(self, batch: Batch, outputs: Batch) -> dict[str, Place]:
        key = tuple(array.shape for array in self._inputs.part(batch, 0, 1).values())
        if key not in self._places:
            self._places[key] = (
                {name: _place_of_one(values) for name, values in outputs.items()}
                if self._size == 1
                else places_in_fixed_batch(self._runner.run, batch, self._inputs)
            )
        return self._places[key]

    def _put_together(self, name: str, place: Place, pieces: Sequence[Batch], count: int) -> NDArray:  # type: ignore[type-arg]
        parts = [piece[name] for piece in pieces]
        if isinstance(place, ImagesAt) and len({part.shape for part in parts}) == 1:
            return place.join(np.concatenate([place.split(part) for part in parts])[:count])
        if place is NotApart.SHARED and all(np.array_equal(part, parts[0], equal_nan=True) for part in parts):
            return parts[0]
        raise DataError(
            f"Output '{name}' does not say which part belongs to which image.",
            found=f"a graph that takes {self._size} images at a time, {count} images, and outputs of "
            + ", ".join(sorted({str(list(part.shape)) for part in parts})),
            expected="an output with an axis of images, of the same size for each",
            next_step=f"give {self._size} at a time, or export the graph with a free batch size",
        )


def _place_of_one(values: NDArray) -> Place:  # type: ignore[type-arg]
    """Return where more images would lie than the one that the tensor holds: one after the other.

    Behind something else where only there is room for one: a state of (layers, 1, channels) is that of one image.
    """
    if values.ndim > 2 and values.shape[0] > 1 and values.shape[1] == 1:
        return ImagesAt(1)
    return ImagesAt(0, inner=max(1, values.shape[0])) if values.ndim else NotApart.SHARED
