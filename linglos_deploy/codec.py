"""Frozen dataclasses to JSON and back, strictly; and their published JSON Schemas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from linglos_deploy.errors import ArtifactError
from linglos_deploy.files import atomic_file

T = TypeVar("T")


def to_json(value: Any) -> str:
    """Return indented JSON with a final newline; the same value always gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(value, enc_hook=_encode), indent=2).decode() + "\n"


def to_builtins(value: Any) -> Any:
    """Return ``value`` as plain dicts, lists, strings and numbers."""
    return msgspec.to_builtins(value, enc_hook=_encode)


def from_json(kind: type[T], text: str | bytes, *, source: str) -> T:
    """Parse JSON into ``kind``, checking every type.

    Args:
        kind: A dataclass.
        text: The JSON.
        source: What the error message calls the text, such as a path.

    Raises:
        ArtifactError: The text is not JSON, or a field is missing or of another type.
    """
    try:
        return msgspec.json.decode(text, type=kind, dec_hook=_decode)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(
            f"'{source}' cannot be read as {kind.__name__}.",
            found=str(error),
            expected=f"JSON as this version's {kind.__name__} schema says",
            next_step="make the file again with this version of linglos-deploy",
        ) from error


def write_json(value: Any, path: Path) -> None:
    """Write ``value`` as JSON, whole or not at all."""
    with atomic_file(path) as partial:
        partial.write_text(to_json(value), encoding="utf-8")


def read_json(kind: type[T], path: Path, *, edited: bool = False) -> T:
    """Read a file written by :func:`write_json`.

    Args:
        kind: A dataclass.
        path: The file.
        edited: Whether people edit such files: then a field that ``kind`` does not have is refused, since nothing
            would come of it. Otherwise it is passed over, as what a later version may have added.

    Raises:
        ArtifactError: The file is missing or not what ``kind`` says.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"'{path}' cannot be read.",
            found=error.strerror or str(error),
            expected=f"a JSON file of this version's {kind.__name__} schema",
            next_step="check the path, or make the file again",
        ) from error
    value = from_json(kind, data, source=str(path))
    if edited:
        _refuse_unknown(msgspec.json.decode(data), to_builtins(value), kind, path)
    return value


def _refuse_unknown(found: Any, known: Any, kind: type, path: Path) -> None:
    unknown = list(_unknown_fields(found, known, ""))
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise ArtifactError(
            f"'{path}' holds fields that {kind.__name__} does not have.",
            found=", ".join(f"'{name}'" for name in unknown[:5]) + more,
            expected=f"the fields of this version's {kind.__name__} schema; nothing would come of others",
            next_step="correct the name, or take it out",
        )


def _unknown_fields(found: Any, known: Any, place: str) -> Iterator[str]:
    """Yield where ``found`` has fields that came through as nothing in ``known``."""
    if isinstance(found, dict) and isinstance(known, dict):
        for name, value in found.items():
            where = f"{place}.{name}" if place else name
            if name in known:
                yield from _unknown_fields(value, known[name], where)
            else:
                yield where
    elif isinstance(found, list) and isinstance(known, list | tuple):
        for index, (value, same) in enumerate(zip(found, known, strict=True)):
            yield from _unknown_fields(value, same, f"{place}[{index}]")


def schema(kind: type) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a dataclass."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(kind, schema_hook=_schema)}


def _encode(value: Any) -> Any:
    if isinstance(value, Path):
        return value.as_posix()
    if hasattr(value, "item"):  # a NumPy scalar
        return value.item()
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def _schema(kind: type) -> dict[str, Any]:
    if kind is Path:
        return {"type": "string"}
    raise NotImplementedError


def _decode(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise TypeError(f"cannot decode {kind.__name__}")
