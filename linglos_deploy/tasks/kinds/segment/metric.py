"""Mean intersection over union: each class counts alike, however few pixels it has.

Source: Everingham et al., "The PASCAL Visual Object Classes Challenge: A Retrospective", IJCV 2015, section 2.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.tasks.kinds.segment.result import NO_CLASS, Segmented

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MeanIou:
    """The mean over classes of the pixels on which map and mask agree, over the pixels that either gives the class.

    Pixels that the mask gives 255 do not count. Classes that neither map nor mask has are left out.
    """

    name: str = "mIoU"
    draws: int = 1000

    def record(self, result: Segmented, truth: NDArray[np.uint8]) -> Counts:
        """Return intersection, and union, in pixels, for each class: int64 of shape 2 x 255."""
        known = truth != NO_CLASS
        found, wanted = result.classes[known], truth[known]
        both = np.bincount(wanted[found == wanted], minlength=NO_CLASS)
        either = np.bincount(found, minlength=NO_CLASS + 1)[:NO_CLASS] + np.bincount(wanted, minlength=NO_CLASS) - both
        return np.stack([both, either])

    def value(self, records: Sequence[Counts], places: NDArray[np.int64]) -> float:
        """Return the mean over classes; 0 where no class is left."""
        times = np.bincount(places, minlength=len(records))
        both, either = np.tensordot(times, np.stack(records), axes=1)
        seen = either > 0
        return float((both[seen] / either[seen]).mean()) if seen.any() else 0.0
