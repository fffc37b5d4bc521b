"""Tasks by name: the modules in ``kinds/``, and those that other distributions bring. Imports none of them."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING

from linglos_deploy.errors import UsageError
from linglos_deploy.tasks import kinds

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from linglos_deploy.tasks.task import Task

ENTRY_POINTS = "linglos_deploy.tasks"
"""Entry-point group through which other distributions add tasks: a name, and ``module:task``."""

CLASSIFY = "classify"
"""What a model is for where nobody says."""

FEATURES = "features"
"""What a model is for whose outputs nobody gives a meaning."""


def task_names() -> tuple[str, ...]:
    """Return the names of all tasks.

    >>> {"classify", "features"} <= set(task_names())
    True
    """
    return tuple(sorted({*_modules_in(tuple(kinds.__path__)), *_from_others()}))


def check_task(name: str) -> str:
    """Return ``name`` if there is such a task.

    Raises:
        UsageError: There is none.
    """
    if name in _modules_in(tuple(kinds.__path__)) or name in _from_others():
        return name
    close = difflib.get_close_matches(name, task_names(), n=1)
    raise UsageError(
        f"There is no task '{name}'.",
        found=name,
        expected=", ".join(task_names()),
        next_step=f"did you mean '{close[0]}'?" if close else f"--task {CLASSIFY}",
    )


def load_task(name: str) -> Task:
    """Import a task.

    Raises:
        UsageError: There is none of this name.
    """
    check_task(name)
    if name in _modules_in(tuple(kinds.__path__)):
        found: Task = getattr(importlib.import_module(f"{kinds.__name__}.{name}"), name)
        return found
    loaded: Task = _from_others()[name].load()
    return loaded


def parse_settings(texts: list[str] | None) -> dict[str, str]:
    """Read settings of a task as they are written on a command line.

    >>> parse_settings(["output=classes"])
    {'output': 'classes'}

    Raises:
        UsageError: One is not ``NAME=VALUE``, or is given twice.
    """
    chosen: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value) or name in chosen:
            raise UsageError(
                "A setting of a task is a name and a value.",
                found=text if name not in chosen else f"'{name}' twice",
                expected="NAME=VALUE, each name once",
                next_step="--task-option output=classes",
            )
        chosen[name] = value
    return chosen


@cache
def _modules_in(path: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(module.name for module in pkgutil.iter_modules(path)))


def _from_others() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # here, because --help imports this module

    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}
