"""Noise per channel, around its mean: what a sum over all channels hides.

A detector's boxes run to hundreds and its scores to one; summed together, noise that ruins the scores is not seen. And
an output that hardly varies passes every ratio of sums by its mean alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from linglos_deploy.reports.parity import ChannelGroup, ChannelNoise

MOST_CHANNELS = 65_536
GROUPED_CHANNELS = 256
"""Outputs with more channels than this are not split into groups."""
GAP = 8.0
"""Ratio of root mean squares from which two neighbouring channels, sorted by it, belong to two groups."""
LEAST_VALUES = 4
MOST_DB = 300.0

Floats = npt.NDArray[np.float64]


@dataclass
class ChannelSums:
    """Running sums of each channel of one output."""

    count: int = 0
    _values: int = 0
    _axes: int = 0
    _sum: Floats = field(default_factory=lambda: np.zeros(0))
    _square: Floats = field(default_factory=lambda: np.zeros(0))
    _noise: Floats = field(default_factory=lambda: np.zeros(0))

    def update(self, wanted: Floats, found: Floats) -> None:
        """Take in one batch of finite numbers, N x ..., both of one shape."""
        axis = channel_axis(wanted.shape)
        if axis is None or wanted.shape[axis] > MOST_CHANNELS or (self.count and self.count != wanted.shape[axis]):
            return
        others = tuple(index for index in range(wanted.ndim) if index != axis)
        if not self.count:
            self.count, self._axes = wanted.shape[axis], wanted.ndim
            self._sum, self._square, self._noise = (np.zeros(self.count) for _ in range(3))
        self._sum += wanted.sum(axis=others)
        self._square += (wanted * wanted).sum(axis=others)
        self._noise += ((found - wanted) ** 2).sum(axis=others)
        self._values += wanted.size // max(self.count, 1)

    def variation_db(self) -> float | None:
        """Return the SQNR around the means of all channels, or ``None`` where there is too little to take a mean of."""
        if self._values < LEAST_VALUES:
            return None
        return _decibels(float(self._variances().sum()), float(self._noise.sum()))

    def groups(self) -> tuple[ChannelGroup, ...]:
        """Return the channels by order of magnitude; empty if all are of one, or too many."""
        if self._axes < 3 or not 2 <= self.count <= GROUPED_CHANNELS or self._values < LEAST_VALUES:
            return ()
        rms = np.sqrt(self._square / self._values)
        order = [int(index) for index in np.argsort(-rms, kind="stable") if rms[index] > 0]
        groups: list[list[int]] = []
        for channel in order:
            if groups and rms[groups[-1][-1]] <= GAP * rms[channel]:
                groups[-1].append(channel)
            else:
                groups.append([channel])
        if len(groups) < 2:
            return ()
        variances = self._variances()
        return tuple(
            ChannelGroup(
                channels=tuple(sorted(group)),
                rms=float(math.sqrt(self._square[group].sum() / (self._values * len(group)))),
                sqnr_db=_decibels(float(variances[group].sum()), float(self._noise[group].sum())),
                mean_db=_decibels(float(self._square[group].sum()), float(self._noise[group].sum())),
            )
            for group in groups
        )

    def worst(self, count: int = 3) -> tuple[ChannelNoise, ...]:
        """Return the channels that vary and have the lowest SQNR around their mean."""
        if self._values < LEAST_VALUES or self.count < 2:
            return ()
        variances = self._variances()
        found = [
            ChannelNoise(int(channel), _decibels(float(variances[channel]), float(self._noise[channel])))
            for channel in np.flatnonzero(variances > 1e-12 * variances.max(initial=0.0))
        ]
        return tuple(sorted(found, key=lambda channel: channel.sqnr_db)[:count])

    def _variances(self) -> Floats:
        """Return each channel's sum of squares around its mean."""
        result: Floats = np.maximum(self._square - self._sum**2 / self._values, 0.0)
        return result


def channel_axis(shape: tuple[int, ...]) -> int | None:
    """Return which axis of an output counts channels: the second, but the shorter one of N x anchors x channels."""
    if len(shape) < 2:
        return None
    return 2 if len(shape) == 3 and shape[2] < shape[1] else 1


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return MOST_DB
    if signal <= 0:
        return -MOST_DB
    return float(np.clip(10 * (math.log10(signal) - math.log10(noise)), -MOST_DB, MOST_DB))
