"""Engines and timing caches on disk, found again by what went into them.

The same graph, configuration, release and GPU give the stored engine at once. An entry is three files in a folder named
by the digest of its key; a damaged one counts as absent. Builds of the same key wait for each other.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from linglos_deploy.artifacts import EngineArtifact
from linglos_deploy.codec import to_json
from linglos_deploy.engines.record import copy_file, log_path, open_engine, read_record, sidecar_path
from linglos_deploy.engines.spec import BuildSpec
from linglos_deploy.errors import ArtifactError, OutputError
from linglos_deploy.files import atomic_file, sha256_bytes, sha256_file

LAYOUT = "1"
"""Part of every key; changes when entries are written differently."""

LIMIT_BYTES = 20 << 30
"""The least recently used engines beyond this are dropped."""


def user_cache_dir() -> Path:
    """Return this package's folder in the user's cache directory, where the system keeps such folders.

    On Linux after the XDG base directory specification: ``$XDG_CACHE_HOME`` where it is an absolute path, else
    ``~/.cache``.
    """
    from platformdirs import user_cache_path

    return user_cache_path("linglos-deploy", appauthor=False)


def cache_key(*, graph: str, spec: BuildSpec, backend: str, version: str, machine: Mapping[str, str]) -> str:
    """Return the name of an entry.

    Args:
        graph: Digest of the ONNX file.
        spec: How it is compiled.
        backend: The compiler.
        version: Version of the library that compiles.
        machine: What of the machine decides the result; empty for ahead-of-time builds.
    """
    parts = {
        "layout": LAYOUT,
        "graph": graph,
        "spec": spec,
        "backend": backend,
        "version": version,
        "machine": dict(sorted(machine.items())),
    }
    return sha256_bytes(to_json(parts).encode())


def compile_or_copy(
    cache: EngineCache | None, key: str, *, out: Path, build: Callable[[], None], copy: Callable[[Path], None]
) -> EngineArtifact:
    """Compile an engine to ``out``, or copy the one that was compiled from the same things before.

    Args:
        cache: Where engines are kept; ``None`` compiles anew and keeps nothing.
        key: Of :func:`cache_key`.
        out: Where the plan goes.
        build: Compiles it there, with its sidecar.
        copy: Copies a kept plan there, with a sidecar for the graph at hand.
    """
    if cache is None:
        build()
        return open_engine(out)
    with cache.lock(key):
        kept = cache.find(key)
        if kept is None:
            build()
            cache.store(key, plan=out)
        else:
            copy(kept)
    return open_engine(out)


class EngineCache:
    """A folder of engines."""

    def __init__(self, folder: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes

    def find(self, key: str) -> Path | None:
        """Return the plan of an entry, with its sidecar and log beside it; ``None`` if there is no intact one."""
        plan = self._plan(key)
        try:
            record = read_record(plan)
            if sha256_file(plan) != record.digest:
                return None
            os.utime(plan)
        except (ArtifactError, OSError):
            return None
        return plan

    def store(self, key: str, *, plan: Path) -> None:
        """Keep the engine at ``plan``, then drop the least recently used ones beyond the limit.

        A cache that cannot be written is no reason to fail a build.
        """
        try:
            entry = self._plan(key)
            if log_path(plan).is_file():
                copy_file(log_path(plan), log_path(entry))
            copy_file(sidecar_path(plan), sidecar_path(entry))
            copy_file(plan, entry)
            self._trim(keep=entry.parent)
        except (OSError, OutputError):
            shutil.rmtree(self._plan(key).parent, ignore_errors=True)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the entry's lock: of two builds with one key, the second waits and then finds the first one's engine."""
        with locked(self.folder / "locks" / f"{key}.lock"):
            yield

    def _plan(self, key: str) -> Path:
        return self.folder / "engines" / key / "model.engine"

    def _trim(self, *, keep: Path) -> None:
        plans = sorted(self.folder.glob("engines/*/model.engine"), key=lambda path: path.stat().st_mtime, reverse=True)
        total = 0
        for plan in plans:
            total += plan.stat().st_size
            if total > self.limit_bytes and plan.parent != keep:
                shutil.rmtree(plan.parent, ignore_errors=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path`` across processes; without a writable folder there is nothing to protect."""
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError:
        yield
        return
    try:
        yield
    finally:
        lock.release()


def read_blob(path: Path) -> bytes:
    """Return the contents of a vendor's cache file, empty if there is none."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def write_blob(path: Path, data: bytes) -> None:
    """Write a vendor's cache file whole; a cache that cannot be written is no reason to fail."""
    with suppress(OSError, OutputError), atomic_file(path) as partial:
        partial.write_bytes(data)
