"""Backends by name. Looking one up imports its adapter; importing this module imports none."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
from collections.abc import Callable
from typing import Any

from linglos_deploy.backends.base import Compiler, Probe, Probeable, Runtime
from linglos_deploy.errors import UsageError

BUILTIN = {
    "torch": "linglos_deploy.backends.pytorch:PyTorch",
    "onnxruntime": "linglos_deploy.backends.onnxruntime:OnnxRuntime",
    "tensorrt": "linglos_deploy.backends.tensorrt:tensorrt",
    "tensorrt-rtx": "linglos_deploy.backends.tensorrt_rtx:tensorrt_rtx",
    "openvino": "linglos_deploy.backends.openvino:OpenVino",
}
"""Name -> ``module:factory``; the factory takes keyword options and returns a Runtime, a Compiler, or both."""

ENTRY_POINTS = "linglos_deploy.backends"
"""Entry-point group through which other distributions add backends."""


def available() -> dict[str, str]:
    """Return all known backends: name -> ``module:factory``."""
    added = {point.name: point.value for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    return {**added, **BUILTIN}


def factory(name: str) -> Callable[..., Any]:
    """Return what creates a backend; its parameters are the backend's options.

    Raises:
        UsageError: No backend has that name.
    """
    known = available()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        raise UsageError(
            f"There is no backend '{name}'.",
            expected=", ".join(known),
            next_step=f"did you mean '{close[0]}'?" if close else "see 'linglos-deploy doctor'",
        )
    module, _, attribute = known[name].partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return found


def create(name: str, **options: Any) -> Any:
    """Create a backend.

    Raises:
        UsageError: No backend has that name.
        MissingDependencyError: Its package is missing (raised by some factories, by others on first use).
    """
    return factory(name)(**options)


def runtime(name: str, **options: Any) -> Runtime:
    """Create a backend that runs models.

    Raises:
        UsageError: No backend has that name, or it cannot run models.
    """
    backend = create(name, **options)
    if not isinstance(backend, Runtime):
        raise UsageError(f"Backend '{name}' cannot run models.", next_step="see 'linglos-deploy doctor'")
    return backend


def compiler(name: str, **options: Any) -> Compiler:
    """Create a backend that compiles engines.

    Raises:
        UsageError: No backend has that name, or it cannot compile engines.
    """
    backend = create(name, **options)
    if not isinstance(backend, Compiler):
        raise UsageError(f"Backend '{name}' does not compile engines.", next_step="see 'linglos-deploy doctor'")
    return backend


def probe(name: str) -> Probe:
    """Say what a backend offers on this machine.

    Raises:
        UsageError: No backend has that name.
    """
    backend = create(name)
    if isinstance(backend, Probeable):
        return backend.probe()
    return Probe(
        name=name,
        installed=True,
        version=None,
        runs=isinstance(backend, Runtime),
        compiles=isinstance(backend, Compiler),
        detail="added by another distribution",
    )
