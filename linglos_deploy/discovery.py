"""Things found by the names of the modules in a folder, and by the entry points of other distributions.

A threshold method, a task, a placement or a form is one module; nobody lists it. Nothing is imported before it is
asked for.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@dataclass(frozen=True)
class Catalogue:
    """What a package holds, one module each.

    A name has hyphens where its module has underscores, if names are ``spoken``.

    Attributes:
        package: The package whose modules count.
        entry_points: Group through which other distributions add to it; ``None`` if they cannot. A module goes before
            an entry of its name.
        spoken: Whether names are for people to type: ``onnxruntime-x86`` for ``onnxruntime_x86.py``.
    """

    package: ModuleType
    entry_points: str | None = None
    spoken: bool = False

    def own(self) -> tuple[str, ...]:
        """Return the names of the package's modules, sorted."""
        names = _modules_in(tuple(self.package.__path__))
        return tuple(sorted(name.replace("_", "-") for name in names)) if self.spoken else names

    def names(self) -> tuple[str, ...]:
        """Return all names, sorted."""
        return tuple(sorted({*self.own(), *self._others()}))

    def __contains__(self, name: object) -> bool:
        return name in self.own() or name in self._others()

    def load(self, name: str, attribute: str | None = None) -> Any:
        """Import what a name stands for: the object called like its module, or ``attribute`` of it.

        Raises:
            KeyError: There is nothing of this name.
        """
        if name not in self.own():
            return self._others()[name].load()
        module = name.replace("-", "_") if self.spoken else name
        return getattr(importlib.import_module(f"{self.package.__name__}.{module}"), attribute or module)

    def _others(self) -> dict[str, EntryPoint]:
        if self.entry_points is None:
            return {}
        from importlib.metadata import entry_points  # here, because --help imports what has a catalogue

        return {point.name: point for point in entry_points(group=self.entry_points)}


def suggest(name: str, known: Iterable[str], *, otherwise: str, typed: Callable[[str], object] = str) -> str:
    """Return what to type next instead of a name that nothing has.

    Args:
        name: What was typed.
        known: What there is.
        otherwise: The next step where nothing comes near.
        typed: How a name of ``known`` is typed, where that is more than the name.

    >>> suggest("mze", ("absmax", "mse"), otherwise="--method mse")
    "did you mean 'mse'?"
    """
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{typed(close[0])}'?" if close else otherwise


@cache
def _modules_in(path: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(module.name for module in pkgutil.iter_modules(path)))
