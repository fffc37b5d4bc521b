"""Top-1 accuracy of an opened classifier on labelled images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from linglos_deploy.backends.base import Runner
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.signature import Batch


def count_correct(
    runner: Runner, batches: Iterable[Batch], labels: Sequence[int], *, output: str, progress: Progress = SILENT
) -> int:
    """Count the images whose largest logit is at their label.

    Args:
        runner: A classifier.
        batches: Its inputs, in the order of ``labels``.
        labels: Class index of every image.
        output: Name of the logits, float N x classes.
        progress: Told of every image.

    Returns:
        The number of correct images. A row with a NaN is never correct.
    """
    correct = seen = 0
    with progress.stage("Measuring accuracy", len(labels)) as advance:
        for batch in batches:
            logits = np.asarray(runner.run(batch)[output], dtype=np.float32)
            wanted = np.asarray(labels[seen : seen + len(logits)])
            hits = (logits.argmax(axis=1) == wanted) & ~np.isnan(logits).any(axis=1)
            correct += int(hits.sum())
            seen += len(logits)
            advance(len(logits))
    return correct
