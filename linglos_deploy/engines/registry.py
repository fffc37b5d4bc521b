"""Compilers by name: those of this package, and those that other distributions bring. Imports none of them."""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from linglos_deploy.discovery import suggest
from linglos_deploy.engines.compiler import Compiler, Probeable
from linglos_deploy.errors import UsageError
from linglos_deploy.reports.doctor import Probe

PACKAGE = "linglos_deploy.backends.compilers"
FOLDER = Path(__file__).parents[1] / "backends" / "compilers"
"""Every module in here is a compiler. The folder is only listed: what it holds imports from here."""

ENTRY_POINTS = "linglos_deploy.compilers"
"""Entry-point group through which other distributions add compilers."""

AUTO: tuple[str, ...] = ("tensorrt-rtx", "tensorrt")
"""What ``--engine auto`` tries. A CPU runs the graph itself just as well, so OpenVINO is for who asks for it."""


_HELP = "see 'linglos-deploy doctor'"


def _modules_in(folder: Path, package: str) -> dict[str, str]:
    """Return a compiler per module: name -> ``module:factory``; those that ``auto`` tries come first."""
    modules = {module.name.replace("_", "-"): module.name for module in pkgutil.iter_modules([str(folder)])}
    order = sorted(modules, key=lambda name: (name not in AUTO, name))
    return {name: f"{package}.{modules[name]}:{modules[name]}" for name in order}


BUILTIN = _modules_in(FOLDER, PACKAGE)
"""Name -> ``module:factory``; the factory takes keyword options and returns a :class:`Compiler`, which may also be a
``Runtime`` that runs its engines."""


def available() -> dict[str, str]:
    """Return all known compilers: name -> ``module:factory``."""
    return {**BUILTIN, **{name: it for name, it in entry_points(ENTRY_POINTS).items() if name not in BUILTIN}}


def choices() -> tuple[str, ...]:
    """Return everything that ``--engine`` takes."""
    return ("auto", "none", *available())


def check_choice(name: str) -> None:
    """Check what ``--engine`` was given.

    Raises:
        UsageError: It is no compiler, and neither ``auto`` nor ``none``.
    """
    if name not in choices():
        raise UsageError(
            f"There is no engine '{name}'.",
            found=name,
            expected=", ".join(choices()),
            next_step=suggest(name, choices(), otherwise=_HELP),
        )


def entry_points(group: str) -> dict[str, str]:
    """Return what other distributions add to a group: name -> ``module:factory``."""
    return {point.name: point.value for point in importlib.metadata.entry_points(group=group)}


def load_factory(name: str, known: Mapping[str, str], *, kind: str) -> Callable[..., Any]:
    """Import what creates the entry ``name`` of ``known``; its parameters are the entry's options.

    Raises:
        UsageError: There is no such entry; ``kind`` says what was looked for.
    """
    if name not in known:
        raise UsageError(
            f"There is no {kind} '{name}'.",
            found=name,
            expected=", ".join(known),
            next_step=suggest(name, known, otherwise=_HELP),
        )
    module, _, attribute = known[name].partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return found


def factory(name: str) -> Callable[..., Any]:
    """Return what creates a compiler; its parameters are the compiler's options.

    Raises:
        UsageError: There is none of that name.
    """
    return load_factory(name, available(), kind="compiler")


def compiler(name: str, **options: Any) -> Compiler:
    """Create a compiler.

    Args:
        name: Which one.
        options: Of its factory.

    Raises:
        UsageError: There is none of that name, or what its factory returns compiles nothing.
    """
    made = factory(name)(**options)
    if not isinstance(made, Compiler):
        raise UsageError(
            f"'{name}' does not compile engines.", found=type(made).__name__, next_step="see 'linglos-deploy doctor'"
        )
    return made


def probe(name: str) -> Probe:
    """Say what a compiler offers on this machine.

    Raises:
        UsageError: There is none of that name.
    """
    made = compiler(name)
    if isinstance(made, Probeable):
        return made.probe()
    detail = "added by another distribution"
    return Probe(name, installed=True, version=None, runs=False, compiles=True, detail=detail)
