"""How many images a run holds, so that the table is the same whatever the batch size.

A run of several images saves time and may change the table in two ways: where its images cannot be told apart in a
tensor, and where kernels round otherwise for a batch than for one image. Neither can be known from the graph, so the
first images of a calibration are run both ways; unless all tensors agree to the bit, every run holds one image.

A graph of fixed batch leaves no choice: its images must be told apart, or a tensor is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.errors import CalibrationError, RunError
from linglos_deploy.graph.axes import ImagesAt, InputAxes, NotApart, Place
from linglos_deploy.graph.find_places import (
    Run,
    copied,
    distinct,
    places_in_any_batch,
    places_in_fixed_batch,
)
from linglos_deploy.signature import Batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TRIED = 3
"""Images that are run alone as well as in a batch."""


@dataclass(frozen=True, slots=True)
class Runs:
    """How images are run.

    Attributes:
        images: Images of one run.
        places: Where they lie in each tensor; ``None`` for runs of one image, which has every tensor to itself.
        reason: Why runs hold no more than one image, where more would have been possible.
    """

    images: int
    places: Mapping[str, Place] | None = None
    reason: str | None = None

    def image_by_image(self, name: str, values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        """Return a tensor of one run by images: the first ``count``, shape (count, *shape of one image's tensor)."""
        if self.places is None:
            return values[np.newaxis]
        place = self.places[name]
        if isinstance(place, ImagesAt):
            return place.split(values)[:count]
        return np.broadcast_to(values, (count, *values.shape))  # each image alone would give it again

    def expected_values(self, name: str, values: NDArray[np.float32], count: int) -> int:
        """Return how many values of a run belong to its first ``count`` images, by sizes alone."""
        if self.places is None:
            return values.size
        return values.size * count if self.places[name] is NotApart.SHARED else values.size * count // self.images


ONE_BY_ONE = Runs(1)


def decide_runs(run: Run, batch: Batch, inputs: InputAxes, wanted: int) -> Runs | None:
    """Find out with the first images how many a run may hold.

    Args:
        run: Runs the graph and returns the tensors, graph inputs that are observed among them.
        batch: The first images.
        inputs: Where images lie in the inputs.
        wanted: Images of one run that memory allows.

    Returns:
        The runs, or ``None`` where these images are all the same and decide nothing.

    Raises:
        CalibrationError: The graph has a fixed batch, and a tensor whose images cannot be told apart.
    """
    if inputs.batch is not None and inputs.batch > 1:
        places = places_in_fixed_batch(run, batch, inputs)
        for name, place in places.items():
            if place is NotApart.MIXED:
                raise _mixed(name, inputs.batch)
        return Runs(inputs.batch, places)
    if wanted == 1 or inputs.batch == 1:
        return ONE_BY_ONE
    chosen = distinct(batch, inputs, min(_TRIED, wanted))
    return None if len(chosen) < 2 else _try_together(run, batch, inputs, chosen, wanted)


def _try_together(run: Run, batch: Batch, inputs: InputAxes, chosen: list[int], wanted: int) -> Runs:
    alone = [copied(run(inputs.pick(batch, [image]))) for image in chosen]
    try:
        together = run(inputs.pick(batch, [chosen[index % len(chosen)] for index in range(wanted)]))
    except RunError as error:
        return Runs(1, reason=f"the graph does not run with {wanted} images: {error.found or error.message}")
    places = places_in_any_batch(alone, together, count=wanted)
    for name, place in places.items():
        if place is NotApart.MIXED:
            return Runs(1, reason=f"the images of a batch cannot be told apart in '{name}'")
        if not _same_bits(place, together[name], [tensors[name] for tensors in alone], wanted):
            return Runs(1, reason=f"'{name}' is rounded otherwise in a batch of {wanted} than for one image")
    return Runs(wanted, places)


def _same_bits(place: Place, together: NDArray[np.float32], alone: list[NDArray[np.float32]], count: int) -> bool:
    if not isinstance(place, ImagesAt):
        return all(np.array_equal(values, together, equal_nan=True) for values in alone)
    images = place.split(together)
    pairs = ((images[index], alone[index % len(alone)]) for index in range(count))
    return all(np.array_equal(found, expected, equal_nan=True) for found, expected in pairs)


def _mixed(name: str, batch: int) -> CalibrationError:
    return CalibrationError(
        f"In tensor '{name}', the images of a batch cannot be told apart.",
        found=f"a graph that takes {batch} images at a time, and a tensor whose values do not follow single images",
        expected="values of one image each; otherwise the images that fill up a batch would count too",
        next_step="export the graph with a free batch size or with batch 1, or leave the tensor out",
    )
