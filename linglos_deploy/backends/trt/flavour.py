"""The two flavours of TensorRT as data: where each comes from and what sets it apart; and how to load its module.

Whether a loaded release has a certain call, flag or enum member is asked of the module itself (``capability``), because
names came and went between 10.3 and 11.4 and values of enum members moved.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from typing import Any

from linglos_deploy.errors import MissingDependencyError, UsageError


@dataclass(frozen=True, slots=True)
class Flavour:
    """One of NVIDIA's inference builders.

    Attributes:
        name: Name of our backend.
        title: What people call it.
        module: Name of its Python module.
        distributions: Distributions that may bring the module, in the order in which they are asked for a version.
        how_to_get: The command that makes it available.
        magic: First four bytes of its plans.
        ahead_of_time: Whether it builds for other GPUs than the one at hand, without a GPU.
        timing_cache: Whether a timing cache helps. Setting one on TensorRT-RTX makes it ask for a GPU.
        across_versions: Whether its engines can be built to load in later releases.
        oldest: First release whose interface this package was written against.
    """

    name: str
    title: str
    module: str
    distributions: tuple[str, ...]
    how_to_get: str
    magic: bytes
    ahead_of_time: bool
    timing_cache: bool
    across_versions: bool
    oldest: tuple[int, int]


TENSORRT = Flavour(
    name="tensorrt",
    title="TensorRT",
    module="tensorrt",
    distributions=(
        "tensorrt",
        "tensorrt-cu13",
        "tensorrt-cu12",
        "tensorrt-cu13-bindings",
        "tensorrt-cu12-bindings",
        "tensorrt-cu13_bindings",
        "tensorrt-cu12_bindings",
    ),
    how_to_get="pip install 'linglos-deploy[tensorrt]' (on a Jetson: sudo apt install python3-libnvinfer-dev)",
    magic=b"ftrt",
    ahead_of_time=False,
    timing_cache=True,
    across_versions=True,
    oldest=(10, 3),
)

TENSORRT_RTX = Flavour(
    name="tensorrt-rtx",
    title="TensorRT-RTX",
    module="tensorrt_rtx",
    distributions=("tensorrt-rtx-cu13", "tensorrt-rtx-cu12", "tensorrt-rtx", "tensorrt_rtx"),
    how_to_get="pip install 'linglos-deploy[tensorrt-rtx]'",
    magic=b"vtrt",
    ahead_of_time=True,
    timing_cache=False,
    across_versions=False,
    oldest=(1, 1),
)

FLAVOURS = {flavour.name: flavour for flavour in (TENSORRT, TENSORRT_RTX)}


def load(flavour: Flavour) -> Any:
    """Import the vendor's module.

    Raises:
        MissingDependencyError: It is not installed, its libraries do not load, or it is too old.
    """
    try:
        module = importlib.import_module(flavour.module)
    except Exception as error:
        installed = installed_version(flavour)
        raise MissingDependencyError(
            f"{flavour.title} is not installed." if installed is None else f"{flavour.title} cannot be loaded.",
            found=f"{type(error).__name__}: {error}",
            expected=f"the Python module '{flavour.module}'",
            next_step=flavour.how_to_get,
        ) from error
    if version_tuple(module.__version__)[:2] < flavour.oldest:
        raise MissingDependencyError(
            f"This {flavour.title} is too old.",
            found=module.__version__,
            expected=f"{'.'.join(map(str, flavour.oldest))} or later",
            next_step=flavour.how_to_get,
        )
    return module


def installed_version(flavour: Flavour) -> str | None:
    """Return the installed version without importing anything; ``"unknown"`` if only the module can be found."""
    for name in flavour.distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    try:
        return "unknown" if importlib.util.find_spec(flavour.module) else None
    except (ImportError, ValueError):
        return None


def version_tuple(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: ``"10.3.0.26"`` -> ``(10, 3, 0, 26)``."""
    numbers = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)


def member(module: Any, enum: str, name: str) -> Any:
    """Return a member of one of the module's enums by name, or ``None`` where this release lacks it."""
    return getattr(getattr(module, enum, None), name, None)


def require_member(module: Any, enum: str, name: str, *, option: str) -> Any:
    """Return a member of one of the module's enums by name.

    Raises:
        UsageError: This release lacks it; ``option`` is what the user asked for.
    """
    found = member(module, enum, name)
    if found is None:
        raise UsageError(
            f"{module.__name__} {module.__version__} has no {enum}.{name}, which {option} needs.",
            next_step=f"leave out {option}, or build with another release",
        )
    return found
