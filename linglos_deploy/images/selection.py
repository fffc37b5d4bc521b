"""Which samples of a source take part: a seeded choice, or every n-th one."""

from __future__ import annotations

import numpy as np

from linglos_deploy.errors import UsageError


def chosen_places(total: int, count: int | None, *, seed: int) -> list[int] | None:
    """Return the places of at most ``count`` samples, a seeded choice spread over all; ``None`` for all of them.

    Raises:
        UsageError: ``count`` is below 1.
    """
    if count is not None and count < 1:
        raise UsageError("At least one image is needed.", found=str(count), expected="1 or more")
    if count is None or count >= total:
        return None
    return [int(place) for place in np.sort(np.random.default_rng(seed).choice(total, count, replace=False))]


def shard_places(selection: tuple[int, ...], index: int, count: int, *, split_before: str | None) -> list[int]:
    """Return the places of shard ``index``, from 1, of ``count``: every ``count``-th sample of the source.

    A sample lies in the same shard whether or not damaged ones were sorted out before.

    Raises:
        UsageError: ``index`` is not in 1 ... ``count``, there are fewer samples, or ``split_before`` names a shard.
    """
    if not 1 <= index <= count:
        raise UsageError("There is no such shard.", found=f"{index}/{count}", expected=f"1/{count} to {count}/{count}")
    if split_before is not None:
        raise UsageError("A shard cannot be split again.", found=split_before)
    if len(selection) < count:
        raise UsageError("There are fewer images than shards.", found=f"{len(selection)} images, {count} shards")
    return [place for place, sample in enumerate(selection) if sample % count == index - 1]
