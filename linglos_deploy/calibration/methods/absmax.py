"""Nothing is clipped."""

from __future__ import annotations

from linglos_deploy.calibration.registry import Settings
from linglos_deploy.calibration.statistics import TensorStatistics


def absmax(stats: TensorStatistics, settings: Settings) -> float:
    """Return the largest magnitude."""
    del settings
    return stats.absolute_maximum
