"""Folders in which other runtimes find an engine of ours: the same plan, with the description that they read.

A runtime that needs the graph in another form gets an engine of that. Written from the formats' public documentation;
none of them has been run on a GPU yet.
"""

from __future__ import annotations

from collections.abc import Iterable

from linglos_deploy.engines.containers.base import Container
from linglos_deploy.engines.containers.deepstream import DEEPSTREAM
from linglos_deploy.engines.containers.epcontext import EPCONTEXT
from linglos_deploy.engines.containers.triton import TRITON
from linglos_deploy.errors import UsageError

CONTAINERS = {container.name: container for container in (TRITON, DEEPSTREAM, EPCONTEXT)}
"""All containers by name."""


def find_containers(names: Iterable[str]) -> tuple[Container, ...]:
    """Return containers by name, each once.

    Raises:
        UsageError: There is none of a name.
    """
    for name in names:
        if name not in CONTAINERS:
            raise UsageError(f"There is no container '{name}'.", found=name, expected=", ".join(CONTAINERS))
    return tuple(CONTAINERS[name] for name in dict.fromkeys(names))


def check_containers(containers: Iterable[Container], compilers: Iterable[str]) -> None:
    """Check, before any work is spent, that an engine is built for every container.

    Raises:
        UsageError: What runs a container reads none of the engines that will be built.
    """
    for container in containers:
        if not set(container.compilers) & set(compilers):
            raise UsageError(
                f"{container.title} does not read these engines.",
                found=", ".join(compilers) or "no engine",
                expected=f"an engine of {' or '.join(container.compilers)}",
                next_step=f"--engine {container.compilers[0]}, or leave out --container {container.name}",
            )
