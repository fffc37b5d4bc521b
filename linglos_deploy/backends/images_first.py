"""Models whose images lie anywhere, fed and read with the images along the first axis of every array.

before: state (2, N, 128), rate () -> logits (N, 10), next (2, N, 128), tokens (N * 7, 64), scale ()
after:  state (N, 2, 128), rate (N) -> logits (N, 10), next (N, 2, 1, 128), tokens (N, 7, 64), scale (N)

What comes out for an image is what the model answers to a batch of that image alone, without the axis of that batch
where it comes first. Who compares images one by one needs no knowledge of axes then. Only checks use this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.artifacts import Artifact
from linglos_deploy.backends.base import CPU, Device, Runner, Runtime
from linglos_deploy.errors import DataError
from linglos_deploy.graph.axes import ImagesAt, NotApart, Place, input_axes
from linglos_deploy.graph.find_places import copied, different_images, places_in_answers, places_in_fixed_batch
from linglos_deploy.signature import Batch, ModelSignature

if TYPE_CHECKING:
    from numpy.typing import NDArray

Places = Mapping[str, Place]
"""Where the images lie in each output."""

Found = Mapping[tuple[tuple[int, ...], ...], Places]
"""Where runs have shown that they lie, by the shapes of one image's input."""


class ImagesFirst:
    """A runtime whose runners take and give any number of images, along the first axis of each array.

    Args:
        runtime: What really runs.
        places: Where images lie in the outputs, if that is known: in those of the model that the artifact should agree
            with. An output that has them elsewhere comes out whole, behind an axis of one, and fits no image then.
        found: What the runner of the same artifact in another process has found, so that this one need not look.
    """

    def __init__(self, runtime: Runtime, places: Places | None = None, found: Found | None = None) -> None:
        self.name = runtime.name
        self.runtime = runtime
        self.places = places or {}
        self.found = found or {}

    @contextmanager
    def open(self, artifact: Artifact, *, device: Device = CPU) -> Iterator[ImagesFirstRunner]:
        """Open an artifact; see :class:`~linglos_deploy.backends.base.Runtime`."""
        with self.runtime.open(artifact, device=device) as runner:
            yield ImagesFirstRunner(runner, self.places, self.found)


class ImagesFirstRunner:
    """An open model, fed and read image by image.

    A model of any batch size runs all images at once, one of a fixed size as many at a time as it takes; what is
    missing from the last run repeats the last image.

    Args:
        runner: What really runs.
        known: The places of :class:`ImagesFirst`.
        found: See there.
    """

    def __init__(self, runner: Runner, known: Places, found: Found) -> None:
        self._runner = runner
        self._known = known
        self._inputs = input_axes(runner.signature)
        self._found = dict(found)

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs of the model, as it lays them out itself."""
        return self._runner.signature

    @property
    def places(self) -> Places:
        """Where the images were found to lie in the outputs; empty as long as each was run alone."""
        return {**self._known, **{name: place for found in self._found.values() for name, place in found.items()}}

    @property
    def known(self) -> Places:
        """What was known of the places before any run."""
        return self._known

    @property
    def found(self) -> Found:
        """What runs have shown of them."""
        return dict(self._found)

    def run(self, batch: Batch) -> Batch:
        """Run images; see :class:`~linglos_deploy.backends.base.Runner`.

        Raises:
            DataError: The images of an output cannot be told apart, or it has another size for each.
        """
        count, size = min(len(array) for array in batch.values()), self._inputs.batch
        layouts = in_layout(batch, self.signature)
        if size == 1 or (size is None and (count == 1 or len(layouts) > 1)):
            return self._one_by_one(batch, count, self.signature.output_names)
        if size is None:
            return self._together(batch, layouts[0], count)
        return self._in_pieces([*layouts], count, size)

    def _together(self, batch: Batch, whole: Batch, count: int) -> dict[str, NDArray]:  # type: ignore[type-arg]
        answers = copied(self._runner.run(whole))
        places = self._places_for(whole)
        mixed = [name for name in answers if places[name] is NotApart.MIXED]
        apart = {name: _taken_apart(values, places[name], count, count) for name, values in answers.items()}
        return {**apart, **self._one_by_one(batch, count, mixed)}

    def _in_pieces(self, layouts: list[Batch], count: int, size: int) -> dict[str, NDArray]:  # type: ignore[type-arg]
        found: dict[str, list[NDArray]] = {name: [] for name in self.signature.output_names}  # type: ignore[type-arg]
        for layout in layouts:
            images = self._inputs.count(layout)
            for start in range(0, images, size):
                stop = min(start + size, images)
                order = np.minimum(np.arange(start, start + size), images - 1).tolist()
                answers = copied(self._runner.run(self._inputs.pick(layout, order)))
                places = self._places_for(layout)
                for name, values in answers.items():
                    if places[name] is NotApart.MIXED:
                        raise _not_apart(name, size, count, [values.shape])
                    found[name].append(_taken_apart(values, places[name], size, stop - start))
        return {name: _joined(name, parts) for name, parts in found.items()}

    def _one_by_one(self, batch: Batch, count: int, names: Sequence[str]) -> dict[str, NDArray]:  # type: ignore[type-arg]
        answers = []
        for place in range(count if names else 0):
            (layout,) = in_layout({name: array[place : place + 1] for name, array in batch.items()}, self.signature)
            answers.append(copied(self._runner.run(layout)))
        stacked = {}
        for name in names:
            shapes = {answer[name].shape for answer in answers}
            if len(shapes) > 1:
                raise _not_apart(name, 1, count, sorted(shapes))
            stacked[name] = _without_batch(np.stack([answer[name] for answer in answers]))
        return stacked

    def _places_for(self, layout: Batch) -> Places:
        """Return where images of this size lie in each output: as it is known, else as runs show it."""
        names = self.signature.output_names
        if all(name in self._known for name in names):
            return self._known
        key = tuple(array.shape for array in self._inputs.part(layout, 0, 1).values())
        if key not in self._found:
            found = self._look(layout) if self._inputs.batch is None else self._look_at_fixed_batch(layout)
            self._found[key] = {name: self._known.get(name, found[name]) for name in names}
        return self._found[key]

    def _look(self, layout: Batch) -> Places:
        try:
            two = different_images(layout, self._inputs, 2)
        except DataError:  # all alike, however they are shuffled: sizes say most
            two = self._inputs.pick(layout, [0, 1])
        runs = [copied(self._runner.run(self._inputs.pick(two, images))) for images in ([0], [1], [0, 1])]
        return places_in_answers(runs[:2], runs[2])

    def _look_at_fixed_batch(self, layout: Batch) -> Places:
        return places_in_fixed_batch(self._runner.run, layout, self._inputs)


def images_first(batch: Batch, signature: ModelSignature) -> Batch:
    """Return a batch of a model's input in the form that :class:`ImagesFirst` takes."""
    inputs = input_axes(signature)
    if all(axis == 0 for axis in inputs.axes.values()):
        return batch
    count = inputs.count(batch)
    return {name: _moved(array, inputs.axes[name], count) for name, array in batch.items()}


def in_layout(batch: Batch, signature: ModelSignature) -> tuple[Batch, ...]:
    """Return a batch that has its images first as the model takes it: what :func:`images_first` undoes.

    It is one batch, or one for each image where they differ in an input that has no place for images.
    """
    axes = input_axes(signature).axes
    if all(axis == 0 for axis in axes.values()):
        return (batch,)
    shared = [array for name, array in batch.items() if axes[name] is None]
    count = min(len(array) for array in batch.values())
    if any(not np.array_equal(array[:1], array[place : place + 1]) for array in shared for place in range(1, count)):
        return tuple(
            in_layout({name: array[place : place + 1] for name, array in batch.items()}, signature)[0]
            for place in range(count)
        )
    return ({name: _laid_out(np.asarray(array), axes[name]) for name, array in batch.items()},)


def _moved(array: NDArray, axis: int | None, count: int) -> NDArray:  # type: ignore[type-arg]
    if axis is None:
        return np.repeat(np.asarray(array)[None], count, axis=0)
    return np.ascontiguousarray(np.moveaxis(array, axis, 0))


def _laid_out(images: NDArray, axis: int | None) -> NDArray:  # type: ignore[type-arg]
    return np.asarray(images[0]) if axis is None else np.ascontiguousarray(np.moveaxis(images, 0, axis))


def _taken_apart(values: NDArray, place: Place, images: int, wanted: int) -> NDArray:  # type: ignore[type-arg]
    """Return the first ``wanted`` of an output's images; all of it behind an axis of one where they lie elsewhere."""
    if place is NotApart.SHARED:
        return _without_batch(np.broadcast_to(values, (wanted, *values.shape)))
    if not isinstance(place, ImagesAt) or place.axis >= values.ndim:
        return values[None]
    if values.shape[place.axis] != place.outer * images * place.inner:
        return values[None]
    return _without_batch(place.split(values)[:wanted])


def _without_batch(images: NDArray) -> NDArray:  # type: ignore[type-arg]
    """Take away the axis of the batch of one that each answer was, where it comes first."""
    return images[:, 0] if images.ndim > 1 and images.shape[1] == 1 else images


def _joined(name: str, parts: Sequence[NDArray]) -> NDArray:  # type: ignore[type-arg]
    shapes = sorted({part.shape[1:] for part in parts})
    if len(shapes) > 1:
        raise _not_apart(name, len(parts[0]), sum(map(len, parts)), shapes)
    return np.concatenate(parts)


def _not_apart(name: str, size: int, count: int, shapes: Sequence[tuple[int, ...]]) -> DataError:
    return DataError(
        f"Output '{name}' does not say which part belongs to which image.",
        found=f"{count} images, {size} at a time, and answers of {', '.join(str(list(shape)) for shape in shapes)}",
        expected="an output with an axis of images, of the same size for each",
        next_step="leave the output out, or export the graph with a free batch size" if size > 1 else "leave it out",
    )
