"""Class names: a text file with one per line."""

from __future__ import annotations

from pathlib import Path

from linglos_deploy.errors import UsageError


def read_labels(path: Path) -> tuple[str, ...]:
    """Read one class name per line, UTF-8; empty lines at the end are dropped.

    Raises:
        UsageError: The file is missing, not text, or has an empty line between two names.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"The labels '{path}' cannot be read.",
            found=error.strerror if isinstance(error, OSError) else "bytes that are not UTF-8 text",
            expected="a text file with one class name per line",
            next_step="check --labels",
        ) from error
    while lines and not lines[-1]:
        lines.pop()
    if not all(lines):
        raise UsageError(
            f"Line {lines.index('') + 1} of the labels '{path}' is empty.",
            expected="one class name per line, in the order of the model's outputs",
            next_step="name the class, or remove the line",
        )
    return tuple(lines)
