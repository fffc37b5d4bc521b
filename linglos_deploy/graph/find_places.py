"""Finds where the images of a batch lie in each tensor, by running a graph and comparing.

Sizes say along which axis: the one that grows with the batch. Values say how it is divided: of all ways to cut the axis
into images, the one that gives what each image gives alone (a graph of any batch size), or what moves with the images
when they change places (a graph of fixed batch size).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.errors import DataError
from linglos_deploy.graph.axes import ImagesAt, InputAxes, NotApart, Place
from linglos_deploy.signature import Batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

Run = Callable[[Batch], Batch]

_ROUNDING = 1e-5
"""What kernels may round otherwise at another place or batch size, relative to a tensor's norm."""

_CROSSTALK = 0.05
"""Largest distance, relative to that between two images, that a right cut leaves: INT8 graphs round by whole steps."""

_SMALLER = 0.75
"""Size of shuffled values, compared with those that they were made of."""

_SHUFFLES = 4
"""Tries per image to make one that is new."""


def places_in_any_batch(alone: Sequence[Batch], together: Batch, *, count: int) -> dict[str, Place]:
    """Find the places in the tensors of a graph that takes any number of images.

    Args:
        alone: The tensors of each image, run alone; two images or more, all different.
        together: The tensors of ``count`` images in one run: those of ``alone``, over and over.
        count: Two or more.
    """
    return {
        name: _place_by_images([tensors[name] for tensors in alone[:count]], whole, count)
        for name, whole in together.items()
    }


def places_in_answers(alone: Sequence[Batch], together: Batch) -> dict[str, Place]:
    """Find the places in what a model of any batch size answers, whatever it answers.

    Where sizes decide, values do not matter: images that leak into each other lie in their places all the same, so that
    who compares them sees the leak.

    Args:
        alone: The answers to two images, each run alone.
        together: The answers to both in one run.
    """
    by_images = places_in_any_batch(alone, together, count=len(alone))
    return {
        name: _place_by_size(alone[0][name].shape, whole.shape, len(alone)) or by_images[name]
        for name, whole in together.items()
    }


def places_in_fixed_batch(run: Run, images: Batch, inputs: InputAxes) -> dict[str, Place]:
    """Find the places in the tensors of a graph that takes ``inputs.batch`` images, two or more, in three runs.

    Args:
        run: Runs the graph and returns the tensors; they may be overwritten by the next run.
        images: One image or more, in the graph's layout. What is missing is made by shuffling their values.
        inputs: Where images lie in the inputs.

    Raises:
        DataError: No different images can be made of these.
    """
    size = inputs.batch or 0
    full = different_images(images, inputs, size + 1)
    orders = ([*range(size)], [*range(1, size), 0], [size, *range(1, size)])
    first, moved, changed = (copied(run(inputs.pick(full, order))) for order in orders)
    return {name: _place_by_moves(first[name], moved[name], changed[name], size) for name in first}


def different_images(images: Batch, inputs: InputAxes, count: int) -> Batch:
    """Return a batch of ``count`` images, all different: the first of ``images``, then some with their values shuffled.

    Raises:
        DataError: They are too small for that.
    """
    found = inputs.pick(images, distinct(images, inputs, count))
    generator = np.random.default_rng(0)
    for tries in range(_SHUFFLES * count):
        if inputs.count(found) == count:
            return found
        more = {
            name: _another(array, inputs.axes[name], generator, noisy=tries >= count) for name, array in images.items()
        }
        both = inputs.join([found, more])
        found = inputs.pick(both, distinct(both, inputs, count))
    raise DataError(
        "The images of a batch cannot be told apart, as they are all alike.",
        found=f"{inputs.count(found)} different images, even with their values shuffled",
        expected=f"{count} different ones",
        next_step="give pictures of something",
    )


def distinct(images: Batch, inputs: InputAxes, most: int) -> list[int]:
    """Return the places of the first images, ``most`` at most, that differ from all before them."""
    seen: dict[bytes, int] = {}
    for place in range(inputs.count(images)):
        seen.setdefault(b"".join(array.tobytes() for array in inputs.image(images, place)), place)
        if len(seen) == most:
            break
    return list(seen.values())


def copied(tensors: Batch) -> dict[str, np.ndarray]:
    """Return tensors that the next run does not overwrite."""
    return {name: values.copy() for name, values in tensors.items()}


def _another(array: NDArray, axis: int | None, generator: np.random.Generator, *, noisy: bool) -> NDArray:  # type: ignore[type-arg]
    """Return the first image with its values in another order, or noisy where that changes too little.

    Shuffled values stay what the model takes, token numbers too; noise moves numbers of tokens by one at most. Numbers
    of floating point are made smaller besides, as a mean of all does not tell shuffled ones apart.
    """
    if axis is None:
        return array
    image = generator.permutation(np.take(array, [0], axis).reshape(-1))
    if image.dtype.kind == "f":
        image = image * _SMALLER
    if noisy and image.dtype.kind == "f":
        image = image + generator.standard_normal(image.shape)
    elif noisy:
        image = image ^ generator.integers(2, size=image.shape).astype(image.dtype)
    return np.asarray(image.astype(array.dtype).reshape(np.take(array, [0], axis).shape))


def _place_by_size(one: tuple[int, ...], whole: tuple[int, ...], count: int) -> Place | None:
    """Return the only axis that grew, from one image to all of them; ``None`` where sizes do not decide."""
    grown = [axis for axis, pair in enumerate(zip(one, whole, strict=False)) if pair[0] != pair[1]]
    only = grown[0] if len(grown) == 1 and len(one) == len(whole) else None
    return ImagesAt(only) if only is not None and (one[only], whole[only]) == (1, count) else None


def _place_by_images(alone: Sequence[NDArray], whole: NDArray, count: int) -> Place:  # type: ignore[type-arg]
    one = alone[0].shape
    if any(values.shape != one for values in alone) or len(one) != whole.ndim:
        return NotApart.MIXED
    if whole.shape == one:
        return NotApart.SHARED if all(_same(values, whole) for values in alone) else NotApart.MIXED
    grown = [axis for axis, (size, more) in enumerate(zip(one, whole.shape, strict=True)) if size != more]
    if len(grown) != 1 or whole.shape[grown[0]] != count * one[grown[0]]:
        return NotApart.MIXED
    (axis,) = grown
    expected = np.stack(alone)
    cuts = list(_cuts(axis, one[axis]))
    if len(cuts) == 1:
        return cuts[0] if _fits(cuts[0].split(whole)[: len(alone)], expected) else NotApart.MIXED
    fitting = []
    for place in cuts:
        found = place.split(whole)[: len(alone)]
        if _settled(found, expected):
            return place
        if _fits(found, expected):
            fitting.append((_norm(_difference(found, expected)), place))
    fitting.sort(key=lambda pair: pair[0])
    if not fitting or (len(fitting) > 1 and fitting[0][0] == fitting[1][0]):
        return NotApart.MIXED  # two cuts are equally right: nothing in these images decides
    return fitting[0][1]


def _place_by_moves(first: NDArray, moved: NDArray, changed: NDArray, count: int) -> Place:  # type: ignore[type-arg]
    if not first.shape == moved.shape == changed.shape:
        return NotApart.MIXED
    fitting: list[tuple[float, ImagesAt]] = []
    for axis, size in enumerate(first.shape):
        for place in _cuts(axis, size // count) if size % count == 0 else ():
            before, after, other = place.split(first), place.split(moved), place.split(changed)
            expected = np.roll(before, -1, axis=0)
            if _settled(after, expected) and _untouched(before, other):
                return place
            if _fits(after, expected) and _untouched(before, other):
                fitting.append((_norm(_difference(after, expected)), place))
    if fitting:
        return min(fitting, key=lambda pair: pair[0])[1]
    return NotApart.SHARED if _same(moved, first) and _same(changed, first) else NotApart.MIXED


def _cuts(axis: int, size: int) -> Iterator[ImagesAt]:
    """Yield all ways in which one image can take ``size`` places of an axis: in one block first."""
    for outer in range(1, size + 1):
        if size % outer == 0:
            yield ImagesAt(axis, outer, size // outer)


def _settled(found: NDArray, expected: NDArray) -> bool:  # type: ignore[type-arg]
    """Return whether images agree to the bit where they differ from each other: no other cut can be right."""
    return np.array_equal(found, expected) and not np.array_equal(expected, np.roll(expected, 1, axis=0))


def _fits(found: NDArray, expected: NDArray) -> bool:  # type: ignore[type-arg]
    """Return whether images agree up to rounding: far closer than they are to each other."""
    spread = _norm(_difference(expected, np.roll(expected, 1, axis=0)))
    return _near(found, expected, _CROSSTALK * spread)


def _untouched(before: NDArray, after: NDArray) -> bool:  # type: ignore[type-arg]
    """Return whether all images but the first, which was replaced, are what they were."""
    return _near(after[1:], before[1:], _CROSSTALK * _norm(_difference(before[:1], after[:1])))


def _same(found: NDArray, expected: NDArray) -> bool:  # type: ignore[type-arg]
    return _near(found, expected, 0.0)


def _near(found: NDArray, expected: NDArray, distance: float) -> bool:  # type: ignore[type-arg]
    if np.array_equal(found, expected):
        return True
    scale = _norm(np.where(np.isfinite(expected), expected, 0))
    return _norm(_difference(found, expected)) <= max(_ROUNDING * scale, distance if np.isfinite(distance) else 0.0)


def _difference(first: NDArray, second: NDArray) -> NDArray[np.float64]:  # type: ignore[type-arg]
    """Return the difference: 0 where both are the same infinity or no number, infinite where only one of them is."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    with np.errstate(invalid="ignore"):
        difference = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, a - b)
    return np.where(np.isnan(difference), np.inf, difference)


def _norm(values: NDArray) -> float:  # type: ignore[type-arg]
    wide = values.astype(np.float64).ravel()
    return float(np.sqrt(np.dot(wide, wide)))
