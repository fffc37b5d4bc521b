"""Graphs whose images lie anywhere, fed and read with the images along the first axis of every array.

before: state (2, N, 128), rate ()      images along axis 1, and none
after:  state (N, 2, 128), rate (N)     an image, its state and its rate at the same place of each array

Who compares images one by one needs no knowledge of axes then. Only checks use this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from linglos_deploy.artifacts import Artifact
from linglos_deploy.backends.base import CPU, Device, Runner, Runtime
from linglos_deploy.graph.axes import input_axes
from linglos_deploy.signature import Batch, ModelSignature

Axes = Mapping[str, int | None]


class ImagesFirst:
    """A runtime whose runners take and give arrays with the images along the first axis.

    Graphs that have them there in every input run as they are; others one image at a time.

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
            axes = input_axes(runner.signature).axes
            yield runner if _in_front(axes) else _OneByOne(runner, axes)


def images_first(batch: Batch, signature: ModelSignature) -> Batch:
    """Return a batch of a graph's input in the form that :class:`ImagesFirst` takes."""
    inputs = input_axes(signature)
    if _in_front(inputs.axes):
        return batch
    count = inputs.count(batch)
    return {name: _moved(array, inputs.axes[name], count) for name, array in batch.items()}


@dataclass(frozen=True, slots=True)
class _OneByOne:
    """Runs one image at a time, and stacks what comes out."""

    runner: Runner
    axes: Axes

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs of the graph."""
        return self.runner.signature

    def run(self, batch: Batch) -> Batch:
        """Run a batch with images along the first axis; see :class:`~linglos_deploy.backends.base.Runner`."""
        answers: list[dict[str, Any]] = []
        for place in range(min(len(array) for array in batch.values())):
            image = {name: _restored(array[place], self.axes[name]) for name, array in batch.items()}
            answers.append({name: np.array(value) for name, value in self.runner.run(image).items()})
        return {name: np.stack([answer[name] for answer in answers]) for name in self.signature.output_names}


def _in_front(axes: Axes) -> bool:
    return all(axis == 0 for axis in axes.values())


def _moved(array: Any, axis: int | None, count: int) -> Any:
    if axis is None:
        return np.repeat(np.asarray(array)[None], count, axis=0)
    return np.ascontiguousarray(np.moveaxis(array, axis, 0))


def _restored(image: Any, axis: int | None) -> Any:
    return np.asarray(image) if axis is None else np.expand_dims(image, axis)
