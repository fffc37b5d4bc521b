"""Where the images of a batch lie in each tensor.

A batch axis may be any axis, and it may be merged with others: a linear layer on tokens reads ``(N * T, C)``, a
recurrent one ``(T, N, C)``. In general the images lie along one axis of size ``outer * N * inner``::

    (N, C, H, W)     axis 0, outer 1, inner 1    a plain batch axis
    (T, N, C)        axis 1, outer 1, inner 1    time first
    (N * T, C)       axis 0, outer 1, inner T    tokens, one image after the other
    (T * N, C)       axis 0, outer T, inner 1    tokens, one position after the other
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.errors import DataError
from linglos_deploy.signature import Batch, Dim, ModelSignature

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BATCH_NAME = re.compile(r".*batch.*|n|b|bs", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ImagesAt:
    """The images lie along ``axis``, whose size is ``outer * N * inner`` for a batch of N."""

    axis: int
    outer: int = 1
    inner: int = 1

    def split(self, values: NDArray) -> NDArray:  # type: ignore[type-arg]
        """Return the tensor image by image: shape (N, *shape of one image's tensor); a view where NumPy can make one.

        Raises:
            ValueError: The axis does not hold whole images.
        """
        before, size, after = values.shape[: self.axis], values.shape[self.axis], values.shape[self.axis + 1 :]
        count, rest = divmod(size, self.outer * self.inner)
        if rest:
            raise ValueError(f"axis {self.axis} of {values.shape} holds no whole images of {self.outer * self.inner}")
        apart = values.reshape(*before, self.outer, count, self.inner, *after)
        return np.moveaxis(apart, self.axis + 1, 0).reshape(count, *before, self.outer * self.inner, *after)

    def join(self, images: NDArray) -> NDArray:  # type: ignore[type-arg]
        """Return the tensor that :meth:`split` takes apart into ``images``."""
        count, before, after = len(images), images.shape[1 : self.axis + 1], images.shape[self.axis + 2 :]
        apart = images.reshape(count, *before, self.outer, self.inner, *after)
        whole = np.moveaxis(apart, 0, self.axis + 1)
        return whole.reshape(*before, self.outer * count * self.inner, *after)


class NotApart(Enum):
    """A tensor in which no image has a place of its own."""

    SHARED = "shared"
    """It holds no images: it is the same whatever the images are."""

    MIXED = "mixed"
    """Its images cannot be told apart, or its size depends on them."""


Place = ImagesAt | NotApart


@dataclass(frozen=True, slots=True)
class InputAxes:
    """Where the images lie in the inputs of a graph.

    Attributes:
        axes: The axis of each input along which images lie, ``None`` for an input without images.
        batch: Number of images that the graph insists on, ``None`` if it takes any.
    """

    axes: Mapping[str, int | None]
    batch: int | None

    def count(self, batch: Batch) -> int:
        """Return the number of images of a batch.

        Raises:
            DataError: The inputs hold different numbers of images.
        """
        counts = {name: batch[name].shape[axis] for name, axis in self.axes.items() if axis is not None}
        if len(set(counts.values())) != 1:
            raise DataError(
                "The inputs hold different numbers of images.",
                found=", ".join(f"{name} {count}" for name, count in counts.items()) or "no input with images",
                expected="as many in each",
            )
        return int(next(iter(counts.values())))

    def part(self, batch: Batch, start: int, stop: int) -> Batch:
        """Return images ``start`` to ``stop`` of a batch, as views."""
        where = slice(start, stop)
        return {name: array[self._at(name, where)] for name, array in batch.items()}

    def pick(self, batch: Batch, images: Sequence[int]) -> Batch:
        """Return a batch of the images at these places, in this order; one may come several times."""
        where = np.asarray(images, dtype=np.intp)
        return {name: array[self._at(name, where)] for name, array in batch.items()}

    def filled(self, batch: Batch) -> Batch:
        """Return a batch of the size that the graph insists on, if it does: the last image fills what is missing."""
        count = self.count(batch)
        if self.batch in (None, count):
            return batch
        return self.pick(batch, [min(place, count - 1) for place in range(self.batch)])

    def join(self, batches: Sequence[Batch]) -> Batch:
        """Return the images of several batches as one; inputs without images are those of the first."""
        return {
            name: first if axis is None else np.concatenate([batch[name] for batch in batches], axis)
            for (name, first), axis in ((item, self.axes[item[0]]) for item in batches[0].items())
        }

    def image(self, batch: Batch, place: int) -> list[NDArray]:  # type: ignore[type-arg]
        """Return one image of a batch, without the axis of images: an array for every input that holds images."""
        return [np.take(batch[name], place, axis) for name, axis in self.axes.items() if axis is not None]

    def _at(self, name: str, where: slice | NDArray[np.intp]) -> tuple[slice | NDArray[np.intp], ...]:
        axis = self.axes[name]
        return () if axis is None else (*(slice(None),) * axis, where)


def input_axes(signature: ModelSignature) -> InputAxes:
    """Tell where the images lie in the inputs from what the file states of their shapes.

    An axis whose name speaks of a batch counts images, else the first axis. Another input holds them along the axis of
    the same name; in a graph of fixed batch, along the first axis of that size. An input without such an axis holds
    none.

    Raises:
        DataError: An input does not say how many axes it has, or no input can hold images.
    """
    named = [
        dim for spec in signature.inputs for dim in spec.dims if isinstance(dim, str) and _BATCH_NAME.fullmatch(dim)
    ]
    first = next((spec.dims[0] for spec in signature.inputs if spec.dims), None)
    wanted = named[0] if named else first
    if wanted is None:
        raise DataError(
            "The model has no input that could hold images.",
            found=", ".join(spec.describe() for spec in signature.inputs) or "no inputs",
            expected="an input with one axis or more",
        )
    axes = {spec.name: _axis_of(wanted, spec.dims, bool(named)) for spec in signature.inputs}
    return InputAxes(axes, wanted if isinstance(wanted, int) else None)


def _axis_of(wanted: Dim, dims: Sequence[Dim], named: bool) -> int | None:
    if wanted in dims:
        return dims.index(wanted)
    free = bool(dims) and isinstance(dims[0], str)
    return 0 if free and not named and isinstance(wanted, str) else None
