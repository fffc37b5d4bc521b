"""Digests and writes that either happen whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from linglos_deploy.errors import OutputError, PlaceTakenError

_CHUNK = 2**20


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 lower-case hexadecimal digits."""
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
        return digest.hexdigest()


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of ``data`` as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` on success, remove it on any failure.

    The rename replaces an existing file in one step, so a reader sees the old bytes or the new ones.

    Raises:
        OutputError: The folder cannot be written, or the disk is full.
    """
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        os.close(handle)
        partial = Path(name)
        try:
            yield partial
            _sync(partial)
            partial.chmod(0o666 & ~_umask())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary directory beside ``path``; rename it to ``path`` on success, remove it on any failure.

    Args:
        path: Where the directory will stand. An empty directory there is taken over.
        replace: Whether a directory with contents may be replaced. The old one is only removed after the new one
            stands in its place.

    Raises:
        OutputError: ``path`` is taken and ``replace`` is false, the place cannot be written, or the disk is full.
    """
    check_free(path, replace=replace)
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
        try:
            yield partial
            partial.chmod(0o777 & ~_umask())
            check_free(path, replace=replace)
            _swap(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def check_free(path: Path, *, replace: bool) -> None:
    """Check that a directory may be written at ``path``, before any work is spent on it.

    Raises:
        PlaceTakenError: ``path`` is a file, or a directory with contents and ``replace`` is false.
        OutputError: It is not writable.
    """
    if path.exists() and not path.is_dir():
        raise PlaceTakenError(
            f"'{path}' is in the way.",
            found="a file",
            expected="a new or empty directory",
            next_step="choose another place with --output",
        )
    if path.is_dir() and any(path.iterdir()) and not replace:
        raise PlaceTakenError(
            f"The output directory '{path}' is not empty.",
            found=f"{sum(1 for _ in path.iterdir())} entries",
            expected="a new or empty directory",
            next_step="choose another place with --output, or replace this bundle with --force",
        )
    place = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    if place == path.absolute():  # it will be swapped out, which the parent must allow
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise OutputError(
            f"'{place}' is not writable.",
            found="no write permission" if place.is_dir() else "not a directory",
            expected="a directory that this user may write to",
            next_step="choose another place with --output",
        )


def check_new(path: Path, *, replace: bool) -> None:
    """Check that a file may be written at ``path``, before any work is spent on it.

    Raises:
        PlaceTakenError: ``path`` is a directory, or a file and ``replace`` is false.
    """
    if path.is_dir():
        raise PlaceTakenError(
            f"'{path}' is in the way.",
            found="a directory",
            expected="the name of a file",
            next_step=f"--output {path / 'NAME'}",
        )
    if path.exists() and not replace:
        raise PlaceTakenError(
            f"'{path}' exists already.",
            found=f"a file of {path.stat().st_size} bytes",
            expected="a new file",
            next_step="choose another place with --output, or replace it with --force",
        )


def _swap(partial: Path, path: Path) -> None:
    if not path.exists():
        partial.rename(path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
    path.rename(old / path.name)
    try:
        partial.rename(path)
    except OSError:
        (old / path.name).rename(path)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn what the system says of a full disk or a missing permission into our error about ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(
                f"There is no room left to write '{path}'.",
                found=error.strerror or "disk full",
                expected="room for the whole result",
                next_step="free some space or choose another disk with --output; nothing was left behind",
            ) from error
        refused = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EEXIST)
        if error.errno in refused or _on_the_way(error.filename, path):
            raise OutputError(
                f"'{path}' cannot be written.",
                found=error.strerror,
                expected="a place that this user may write to",
                next_step="choose another place with --output",
            ) from error
        raise


def _on_the_way(filename: object, path: Path) -> bool:
    """Tell whether an error names what a write to ``path`` makes: its partial file, or a folder above it.

    Nothing else may be taken for the place: a file of the user's that is missing while ``path`` is written is not.
    """
    if not isinstance(filename, str | os.PathLike):
        return False
    named = Path(filename).absolute()
    return named in path.absolute().parents or (named.parent == path.absolute().parent and named.suffix == ".partial")


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
