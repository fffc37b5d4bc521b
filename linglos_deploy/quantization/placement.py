"""What a runtime wants of an INT8 graph, as a value, and the placements by name. Imports neither onnx nor a runtime.

A plan says which layers become INT8 and within which limits. A placement says in which integers, and where they have to
stand for one runtime to compute with them rather than around them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from linglos_deploy.choices import Precision
from linglos_deploy.compat import StrEnum
from linglos_deploy.discovery import Catalogue, suggest
from linglos_deploy.errors import UsageError
from linglos_deploy.quantization import placements

if TYPE_CHECKING:
    from linglos_deploy.artifacts import Lineage

ENTRY_POINTS = "linglos_deploy.placements"
"""Entry-point group through which other distributions add placements: a name, and ``module:placement``."""

_PLACEMENTS = Catalogue(placements, ENTRY_POINTS, spoken=True)

DEFAULT = "tensorrt"
"""The placement that every runtime reads: symmetric, in front of layers."""


class Integers(StrEnum):
    """Element type of activations."""

    INT8 = "int8"
    UINT8 = "uint8"


@dataclass(frozen=True, slots=True)
class Placement:
    """What one runtime wants.

    Attributes:
        name: How ``--target-runtime`` calls it.
        runtimes: The backends that it is made for.
        machines: The processors that it is made for, as ``platform.machine()`` calls them; empty for all.
        integers: Element type of activations.
        zero_points: Whether zero may be any integer, so that the limits of a tensor need not be symmetric.
        layers: Operators that the runtime computes in integers, all that can be planned if ``None``. Others of a plan
            stay in floating point as they are.
        stores: Those of them that it computes in integers only where the result is stored as integers too.
        between: Operators without weights that it computes in integers between pairs. They get pairs where everything
            that they read and make is rounded for a layer anyway.
        biases: Layers whose bias it wants as INT32, in steps of the sum.
        saturating_session_options: What a loader sets on CPUs without integer dot products, so that no sum saturates:
            ONNX Runtime's session configuration. On others it would only cost speed.
        narrow: Whether the parts in floating point may be 16 bits wide.
        residuals: Whether what is added to a layer's result is rounded, where a layer's grid for it is at hand and the
            sum is read in integers only.
    """

    name: str
    runtimes: tuple[str, ...]
    machines: tuple[str, ...] = ()
    integers: Integers = Integers.INT8
    zero_points: bool = False
    layers: frozenset[str] | None = None
    stores: frozenset[str] = frozenset()
    between: frozenset[str] = frozenset()
    biases: frozenset[str] = frozenset()
    saturating_session_options: Mapping[str, str] = field(default_factory=dict)
    narrow: bool = False
    residuals: bool = False

    def serves(self, runtime: str, machine: str) -> bool:
        """Return whether it is made for a backend on a processor."""
        return runtime in self.runtimes and (not self.machines or machine in self.machines)

    def graph_name(self, precision: Precision) -> str:
        """Return the name of a graph's file in a bundle; the default placement needs no name of its own."""
        tag = "" if self.name == DEFAULT else f".{self.name}"
        return f"model.{precision}{tag}.onnx"


def placement_names() -> tuple[str, ...]:
    """Return the names of all placements, the default first.

    >>> placement_names()[0]
    'tensorrt'
    """
    return tuple(sorted(_PLACEMENTS.names(), key=lambda it: (it != DEFAULT, it)))


def find_placement(name: str) -> Placement:
    """Return a placement.

    Raises:
        UsageError: There is none of this name.
    """
    if name in _PLACEMENTS:
        placement: Placement = _PLACEMENTS.load(name)
        return placement
    raise UsageError(
        f"There is no placement '{name}' for INT8.",
        found=name,
        expected=", ".join(placement_names()),
        next_step=suggest(name, placement_names(), otherwise=f"--target-runtime {DEFAULT}"),
    )


def default_placements(precision: Precision) -> tuple[str, ...]:
    """Return the placements that a bundle gets unless others are asked for: all that this package's x86 users run.

    >>> default_placements(Precision.INT8_FP16)
    ('tensorrt',)
    """
    if not precision.is_int8:
        return ()
    return ("tensorrt", "openvino", "onnxruntime-x86") if precision is Precision.INT8 else ("tensorrt",)


def check_placements(names: Sequence[str], precision: Precision) -> None:
    """Check that every named placement can be had in a precision.

    Raises:
        UsageError: There is no such placement, it is named twice, or it does not go with the precision.
    """
    if names and not precision.is_int8:
        raise UsageError(
            "Options for INT8 change nothing here.",
            found=f"--precision {precision} with --target-runtime",
            expected="--precision int8 or int8+fp16",
            next_step="add --int8, or leave --target-runtime out",
        )
    for name in names:
        placement = find_placement(name)
        if precision.floating is not Precision.FP32 and not placement.narrow:
            raise UsageError(
                f"'{name}' runs INT8 beside float32, and the graph would have parts 16 bits wide.",
                found=f"--target-runtime {name} and --precision {precision}",
                expected=f"--precision int8, or --target-runtime {DEFAULT}",
                next_step="leave --half out for this one",
            )
    if len(set(names)) < len(names):
        raise UsageError("A runtime is named twice.", found=", ".join(names), expected="each once")


def placement_of(lineage: Lineage) -> Placement | None:
    """Return the placement that an INT8 graph was made with; ``None`` where its lineage does not say."""
    for step in reversed(lineage):
        name = step.config.get("placement") if step.stage == "quantize" else None
        if isinstance(name, str):
            return find_placement(name)
    return None
