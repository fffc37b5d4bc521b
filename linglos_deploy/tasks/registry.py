"""Tasks by name: the modules in ``kinds/``, and those that other distributions bring. Imports none of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from linglos_deploy.discovery import Catalogue, suggest
from linglos_deploy.errors import UsageError
from linglos_deploy.tasks import kinds

if TYPE_CHECKING:
    from linglos_deploy.tasks.task import Task

ENTRY_POINTS = "linglos_deploy.tasks"
"""Entry-point group through which other distributions add tasks: a name, and ``module:task``."""

_TASKS = Catalogue(kinds, ENTRY_POINTS)

CLASSIFY = "classify"
"""What a model is for where nobody says."""

FEATURES = "features"
"""What a model is for whose outputs nobody gives a meaning."""


def task_names() -> tuple[str, ...]:
    """Return the names of all tasks.

    >>> {"classify", "features"} <= set(task_names())
    True
    """
    return _TASKS.names()


def check_task(name: str) -> str:
    """Return ``name`` if there is such a task.

    Raises:
        UsageError: There is none.
    """
    if name in _TASKS:
        return name
    raise UsageError(
        f"There is no task '{name}'.",
        found=name,
        expected=", ".join(task_names()),
        next_step=suggest(name, task_names(), otherwise=f"--task {CLASSIFY}"),
    )


def load_task(name: str) -> Task:
    """Import a task.

    Raises:
        UsageError: There is none of this name.
    """
    check_task(name)
    task: Task = _TASKS.load(name)
    return task


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
