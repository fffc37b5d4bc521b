"""What Python 3.11 has in its standard library, and Python 3.10 in well-kept packages.

JetPack 6 brings Python 3.10, and TensorRT's bindings for that one only.
"""

from __future__ import annotations

import sys

if sys.version_info >= (3, 11):
    from enum import StrEnum  # novm: guarded above
    from typing import Self  # novm

    import tomllib  # novm
else:
    import tomli as tomllib
    from backports.strenum import StrEnum
    from typing_extensions import Self

__all__ = ["Self", "StrEnum", "add_note", "tomllib"]


def add_note(error: BaseException, note: str) -> None:
    """Add a line to what Python prints below an error; Python 3.10 keeps it and does not print it."""
    if sys.version_info >= (3, 11):
        error.add_note(note)
    else:
        error.__notes__ = [*getattr(error, "__notes__", []), note]
