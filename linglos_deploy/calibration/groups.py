"""Channels that their readers weigh alike: what an error on a channel costs depends on the weights that multiply it.

An error of variance ``e`` on channel ``c`` becomes one of ``e * sum(W[:, c]**2)``, summed over the outputs of a layer.
That factor is the channel's *gain*. It is known before any image is seen, and one histogram per group of channels with
similar gains tells afterwards what any bound would cost at the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.errors import CalibrationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_GROUPS = 4
"""Histograms per tensor. More have not changed a bound by a decibel."""

_OCTAVES = 2.0
"""Gains that differ by less than this, as a power of two, count as alike."""

_STEPS = 4
"""Steps per octave in which gains are compared, so that the last bit of a sum does not move a channel."""

_FLOOR = 40
"""Octaves below the largest gain from which a channel counts as not read at all."""

_DIGITS = 10
"""Bits of a gain that are kept, for the same reason."""


@dataclass(frozen=True, slots=True)
class ChannelGroups:
    """Which channels of a tensor are weighed alike.

    Attributes:
        members: The group of each channel, from 0.
        gains: Mean gain of the channels in each group, relative to the mean of all channels; rising.
    """

    members: tuple[int, ...]
    gains: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", tuple(self.members))
        object.__setattr__(self, "gains", tuple(self.gains))
        if set(self.members) != set(range(len(self.gains))):
            raise ValueError(f"channels in groups {sorted(set(self.members))} of {len(self.gains)}")
        if not all(math.isfinite(gain) and gain >= 0 for gain in self.gains):
            raise ValueError("gains that are no weights")

    def __len__(self) -> int:
        return len(self.gains)

    def channels_of(self, group: int) -> NDArray[np.intp]:
        """Return the channels of a group, rising."""
        return np.flatnonzero(np.array(self.members) == group)


@dataclass(frozen=True, slots=True, eq=False)
class GroupHistograms:
    """A histogram for each group of channels.

    Attributes:
        groups: Which channels they are of.
        bins: Occupied bins of each group, uint16, rising.
        counts: Values in each of them, int64, above 0.
    """

    groups: ChannelGroups
    bins: tuple[NDArray[np.uint16], ...] = field(default_factory=tuple)
    counts: tuple[NDArray[np.int64], ...] = field(default_factory=tuple)

    def merge(self, other: GroupHistograms) -> GroupHistograms:
        """Return what one observer of both would have seen.

        Raises:
            CalibrationError: The groups differ.
        """
        if self.groups != other.groups:
            raise CalibrationError(
                "Histograms of different groups of channels cannot be merged.",
                found=f"{len(self.groups)} and {len(other.groups)} groups",
                expected="tables of one graph, made by the same release",
                next_step="calibrate all shards again with the same release",
            )
        pairs = zip(self.bins, self.counts, other.bins, other.counts, strict=True)
        merged = [add_histograms((bins, counts), (others, more)) for bins, counts, others, more in pairs]
        return GroupHistograms(self.groups, tuple(bins for bins, _ in merged), tuple(counts for _, counts in merged))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, GroupHistograms)
            and self.groups == other.groups
            and all(np.array_equal(a, b) for a, b in zip(self.bins, other.bins, strict=True))
            and all(np.array_equal(a, b) for a, b in zip(self.counts, other.counts, strict=True))
        )

    __hash__ = None  # type: ignore[assignment]


def group_channels(gains: Sequence[float] | NDArray[np.floating]) -> ChannelGroups:
    """Divide channels into as few groups as keep their gains alike, at most :data:`MAX_GROUPS`.

    Among divisions into that many groups the one with the least variance of the gains' logarithms is taken.

    Args:
        gains: One per channel, not negative.

    >>> group_channels([1.0, 1.1, 0.9, 0.0001]).members
    (1, 1, 1, 0)
    """
    values = np.asarray(gains, dtype=np.float64)
    mean = float(values.mean()) if values.size else 0.0
    if mean <= 0 or not math.isfinite(mean):
        return ChannelGroups((0,) * len(values), (1.0,))
    floor = float(values.max()) * 2.0**-_FLOOR
    steps = np.rint(_STEPS * np.log2(np.maximum(values, floor))).astype(np.int64)
    places, position, counts = np.unique(steps, return_inverse=True, return_counts=True)
    members = _divide(places, counts)[position]
    mean_gains = [_shortened(float(values[members == group].mean()) / mean) for group in range(members.max() + 1)]
    return ChannelGroups(tuple(int(group) for group in members), tuple(mean_gains))


def add_histograms(
    first: tuple[NDArray[np.uint16], NDArray[np.int64]], second: tuple[NDArray[np.uint16], NDArray[np.int64]]
) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """Return occupied bins and counts of two histograms together."""
    bins, position = np.unique(np.concatenate([first[0], second[0]]), return_inverse=True)
    counts = np.zeros(len(bins), dtype=np.int64)
    np.add.at(counts, position, np.concatenate([first[1], second[1]]))
    return bins, counts


def _divide(places: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the group of each place, rising: dynamic programming over where groups end."""
    widest = _OCTAVES * _STEPS
    best: dict[int, tuple[float, list[int]]] = {0: (0.0, [])}  # places before -> cost, where groups begin
    for number in range(1, MAX_GROUPS + 1):
        best = {
            end: min(
                (cost + _spread(places[start:end], counts[start:end]), [*begins, start])
                for start, (cost, begins) in best.items()
                if start < end
            )
            for end in range(number, len(places) + 1)
        }
        begins = [*best[len(places)][1], len(places)]
        widths = [places[end - 1] - places[start] for start, end in pairwise(begins)]
        if max(widths) <= widest or len(places) == number:
            break
    return np.searchsorted(np.array(begins[1:-1]), np.arange(len(places)), side="right")


def _spread(places: NDArray[np.int64], counts: NDArray[np.int64]) -> float:
    mean = float(np.average(places, weights=counts))
    return float((counts * (places - mean) ** 2).sum())


def _shortened(value: float) -> float:
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(mantissa * 2**_DIGITS), exponent - _DIGITS)
