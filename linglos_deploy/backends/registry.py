"""Backends by name, compilers included. Looking one up imports its adapter; importing this module imports none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from linglos_deploy.backends.base import Probe, Probeable, Runtime
from linglos_deploy.engines import registry as compilers
from linglos_deploy.engines.compiler import Compiler
from linglos_deploy.engines.registry import entry_points, load_factory
from linglos_deploy.errors import UsageError

BUILTIN = {
    "torch": "linglos_deploy.backends.pytorch:PyTorch",
    "onnxruntime": "linglos_deploy.backends.onnxruntime:OnnxRuntime",
}
"""Backends that compile nothing: name -> ``module:factory``; the factory takes keyword options, returns a Runtime."""

ENTRY_POINTS = "linglos_deploy.backends"
"""Entry-point group through which other distributions add backends that run models."""


def available() -> dict[str, str]:
    """Return all known backends: name -> ``module:factory``."""
    return {**entry_points(ENTRY_POINTS), **BUILTIN, **compilers.available()}


def factory(name: str) -> Callable[..., Any]:
    """Return what creates a backend; its parameters are the backend's options.

    Raises:
        UsageError: No backend has that name.
    """
    return load_factory(name, available(), kind="backend")


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
