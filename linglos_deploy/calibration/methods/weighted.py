"""The clipping bound with the least error at the outputs of the layers that read a tensor.

An error on a channel counts as much as the squares of the weights that multiply it
(:mod:`linglos_deploy.calibration.gains`). A network with a few loud channels has small weights for them: plain squared
error would spend the whole range on what hardly counts.
"""

from __future__ import annotations

from linglos_deploy.calibration.methods.mse import least_squared_error
from linglos_deploy.calibration.registry import Settings
from linglos_deploy.calibration.statistics import TensorStatistics


def weighted(stats: TensorStatistics, settings: Settings) -> float:
    """Return the bound with the least weighed squared error; that of ``mse`` where all channels weigh the same."""
    bins, weights = stats.weighed_magnitudes()
    return least_squared_error(bins, weights, stats.absolute_maximum, levels=settings.levels, spikes=stats.spikes())
