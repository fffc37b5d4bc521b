"""What a container is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from linglos_deploy.artifacts import OnnxArtifact
from linglos_deploy.engines.record import EngineRecord
from linglos_deploy.engines.spec import BuildSpec


@dataclass(frozen=True, slots=True)
class Container:
    """A form in which another runtime takes an engine.

    Attributes:
        name: What ``--container`` takes.
        title: The runtime.
        compilers: Whose engines it reads.
        write: Writes the container of a plan and its record into a folder.
        check: Raises a UsageError where the runtime could not feed a graph or read its answers; ``None`` takes all.
        graph: Writes the graph that the runtime needs into the folder, where that is not the one at hand: its engine is
            the container's.
    """

    name: str
    title: str
    compilers: tuple[str, ...]
    write: Callable[[Path, EngineRecord, Path], None]
    check: Callable[[OnnxArtifact, BuildSpec], None] | None = None
    graph: Callable[[OnnxArtifact, Path], OnnxArtifact] | None = None


def model_name(record: EngineRecord) -> str:
    """Return the graph's name as a name for other programs: letters, digits, ``_`` and ``-``."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", Path(record.onnx_name).stem)
