"""What a fault is, and how the modules of this package collect theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx

Edit = Callable[[onnx.ModelProto], None]

_PLANTED: dict[str, list[Fault]] = {}


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong with a graph.

    Attributes:
        name: What is wrong, in words.
        edit: Makes it so, in place.
        layer: The node that it sits in, or where it takes effect first; ``None`` if it sits in several.
    """

    name: str
    edit: Edit
    layer: str | None

    def __str__(self) -> str:
        return self.edit.__name__.strip("_")

    def plant(self, model: onnx.ModelProto) -> onnx.ModelProto | None:
        """Return the faulty graph, ``None`` where there is nothing to damage; ``model`` stays as it is."""
        faulty = onnx.ModelProto()
        faulty.CopyFrom(model)
        try:
            self.edit(faulty)
        except LookupError:
            return None
        return faulty


def fault(name: str, *, layer: str | None) -> Callable[[Edit], Edit]:
    """Register an edit as a fault of its module."""

    def register(edit: Edit) -> Edit:
        _PLANTED.setdefault(edit.__module__, []).append(Fault(name, edit, layer))
        return edit

    return register


def planted_in(module: str) -> tuple[Fault, ...]:
    """Return the faults of a module, in the order of its text."""
    return tuple(_PLANTED.get(module, ()))
