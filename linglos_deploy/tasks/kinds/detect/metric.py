"""COCO's average precision, as faster-coco-eval computes it: the mean over ten overlaps from 0.5 to 0.95."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from linglos_deploy.errors import MissingDependencyError
from linglos_deploy.tasks.kinds.detect.data import TrueBox
from linglos_deploy.tasks.kinds.detect.result import Detected

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Record = tuple[Detected, tuple[TrueBox, ...]]


@dataclass(frozen=True, slots=True)
class AveragePrecision:
    """The area under precision over recall, at most 100 boxes a picture, the mean over classes and overlaps."""

    name: str = "AP"
    draws: int = 100

    def record(self, result: Detected, truth: tuple[TrueBox, ...]) -> Record:
        """Return both: what counts is known over all pictures only."""
        return result, truth

    def value(self, records: Sequence[Record], places: NDArray[np.int64]) -> float:
        """Return AP over the chosen pictures; 0 where they hold no object, or nothing was found.

        Raises:
            MissingDependencyError: faster-coco-eval is not installed.
        """
        try:
            from faster_coco_eval import COCO, COCOeval_faster
        except ImportError as error:
            raise MissingDependencyError(
                "Average precision is computed by faster-coco-eval.",
                found="no package of this name",
                expected="faster-coco-eval",
                next_step="pip install 'linglos-deploy[coco]'",
            ) from error
        chosen = [records[int(place)] for place in places]
        found = [_found(image, box) for image, (result, _) in enumerate(chosen, 1) for box in result.boxes]
        truth = [_true(image, box) for image, (_, boxes) in enumerate(chosen, 1) for box in boxes]
        if not found or not any(not box["iscrowd"] for box in truth):
            return 0.0
        labels = sorted({box["category_id"] for box in (*found, *truth)})
        content = {
            "images": [{"id": image} for image in range(1, len(chosen) + 1)],
            "annotations": [{"id": number, **box} for number, box in enumerate(truth, 1)],
            "categories": [{"id": label, "name": str(label)} for label in labels],
        }
        known = COCO(content)
        judged = COCOeval_faster(known, known.loadRes(found), "bbox", print_function=lambda *_: None)
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
        return max(0.0, float(judged.stats[0]))


def _found(image: int, box: Any) -> dict[str, Any]:
    sides = [box.left, box.top, box.right - box.left, box.bottom - box.top]
    return {"image_id": image, "category_id": box.label + 1, "bbox": sides, "score": box.score}


def _true(image: int, box: TrueBox) -> dict[str, Any]:
    return {
        "image_id": image,
        "category_id": box.label + 1,
        "bbox": list(box.box),
        "area": box.area,
        "iscrowd": int(box.crowd),
    }
