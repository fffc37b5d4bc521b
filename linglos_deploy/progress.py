"""How long work tells the outside that it is going on. The library never prints; the command line renders this."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Advance(Protocol):
    """Says that ``steps`` more units of the current stage are done."""

    def __call__(self, steps: int = 1) -> None:
        """Advance."""
        ...


class Progress(Protocol):
    """Receives what a stage has to say while it runs."""

    def stage(self, name: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Open a stage of ``total`` units (``None``: unknown); the context value advances it."""
        ...

    def warn(self, message: str) -> None:
        """Say something the user should not miss."""
        ...


class Silent:
    """A :class:`Progress` that shows nothing."""

    def stage(self, name: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Return an advance that does nothing."""
        return nullcontext(_ignore)

    def warn(self, message: str) -> None:
        """Drop the message."""


def _ignore(steps: int = 1) -> None:
    return None


SILENT: Progress = Silent()
