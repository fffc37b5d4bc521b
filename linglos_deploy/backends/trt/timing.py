"""Timings of tactics from earlier builds, for standard TensorRT: the second build of a network is much shorter.

They hold for one release on one GPU model, so both are in the file's name. TensorRT-RTX ignores timings, and giving it
a cache makes it ask for a GPU at build time; this module must not be used with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from linglos_deploy.engines.cache import locked, read_blob, write_blob


@contextmanager
def timing_cache(config: Any, path: Path | None) -> Iterator[None]:
    """Give a build the timings at ``path``, and add what it measures to them."""
    if path is None:
        yield
        return
    with locked(_lock(path)):
        before = read_blob(path)
    cache = config.create_timing_cache(before)
    config.set_timing_cache(cache, False)
    yield
    with locked(_lock(path)):
        now = read_blob(path)
        if now != before:  # another build finished meanwhile
            cache.combine(config.create_timing_cache(now), True)
        write_blob(path, bytes(cache.serialize()))


def timing_path(folder: Path, *, version: str, gpu: str) -> Path:
    """Return the file for a release and a GPU model."""
    return folder / "timing" / f"tensorrt-{version}-{re.sub('[^a-z0-9]+', '-', gpu.lower()).strip('-')}.cache"


def _lock(path: Path) -> Path:
    return path.with_suffix(".lock")
