"""Scales of channels move once more where pictures show that INT8 gains: what channels reach is now seen, not guessed.

before: y = f(x) made by a layer norm or a linear map,   z = W y + b
after:  y' = f(x) / s, by other parameters of f,         z = (W diag(s)) y' + b

:mod:`.equalization` moves scales by what weights promise, and only where they promise much. Here a calibration pass has
seen how far each channel of what a layer reads goes and how strong it is. The answers stay what they were.

G. Xiao et al., *SmoothQuant*, ICML 2023, equation 4, takes a fixed share of what channels reach; here the share is the
one with the least error of activation and weight together, of all layers that read the channels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from linglos_deploy.artifacts import OnnxArtifact, Step, load_onnx, open_onnx, tool_versions
from linglos_deploy.codec import from_json, to_builtins
from linglos_deploy.errors import ExportError
from linglos_deploy.exporters.equalization import Floats, Source, absorb, find_readers, find_sources, is_own, rescale
from linglos_deploy.files import atomic_file
from linglos_deploy.graph.gains import channel_gains, in_integers, weight_blocks
from linglos_deploy.graph.layers import Layer, find_layers
from linglos_deploy.graph.links import node_name
from linglos_deploy.graph.passes.running import read_ir, run_passes

STAGE = "balance"
"""Name of the step in a graph's lineage."""

LEAST_GAIN_DB = 0.5
"""What moving scales must promise; whether it is kept is measured where a bundle is made."""

WEIGHT_ERRORS = 4.0
"""How much more an error of a weight counts than one of an activation of the same square. It is the same at all
positions of a picture, so what sums or averages positions later does not make it smaller."""

_SHARES = tuple(share / 8 for share in range(1, 9))
_PER_OCTAVE = 64
_SMALLEST = 2.0**-20
"""Channels that are quieter than this share of the loudest are not made louder any further."""


@dataclass(frozen=True, slots=True)
class ChannelsSeen:
    """What was seen of the channels of a tensor.

    Attributes:
        reach: Largest magnitude of each, float64 of shape (C,).
        power: Mean square of each, float64 of shape (C,).
    """

    reach: Floats
    power: Floats


@dataclass(frozen=True, slots=True)
class Balanced:
    """Scales that were moved.

    Attributes:
        maker: Name of the node that makes the channels.
        readers: Names of the layers that take the scales over.
        gain_db: By how much the error of the INT8 readers is expected to fall.
        steps: The scale of each channel, as the power of two of so many 64ths.
    """

    maker: str
    readers: tuple[str, ...]
    gain_db: float
    steps: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "readers", tuple(self.readers))
        object.__setattr__(self, "steps", tuple(self.steps))

    @property
    def scale(self) -> Floats:
        """The scales themselves, float64 of shape (C,)."""
        return np.exp2(np.array(self.steps, dtype=np.float64) / _PER_OCTAVE)


def balanced_tensors(graph: onnx.ModelProto) -> tuple[str, ...]:
    """Return the tensors whose channels have to be seen before their scales can be moved, each once."""
    places = _places(read_ir(graph).graph)
    return tuple(dict.fromkeys(str(layer.data.name) for _, layers in places for layer in layers))


def balance_channels(graph: OnnxArtifact, seen: Mapping[str, ChannelsSeen], *, out: Path) -> OnnxArtifact:
    """Write a float32 graph with scales of channels moved where that promises to pay; it answers as before.

    Args:
        graph: A graph with the shapes of its tensors, as exports have them.
        seen: What was seen of :func:`balanced_tensors`.
        out: Where the new graph goes; may be where the old one lies.

    Returns:
        The new graph, whose lineage holds the scales; the old one where nothing was moved.
    """
    moving = BalanceChannels(seen)
    proto = run_passes(load_onnx(graph.path), moving)
    return _write(graph, proto, moving.done, out) if moving.done else graph


def balance_again(graph: OnnxArtifact, step: Step, *, out: Path) -> OnnxArtifact:
    """Write a graph with scales moved as a step of a lineage says that they were moved before.

    Raises:
        ExportError: The graph is not the one in which they were moved.
    """
    moves = [from_json(Balanced, json.dumps(move), source=step.stage) for move in step.config["moved"]]
    return _write(graph, run_passes(load_onnx(graph.path), BalanceAgain(moves)), moves, out)


def _write(graph: OnnxArtifact, proto: onnx.ModelProto, moves: Sequence[Balanced], out: Path) -> OnnxArtifact:
    step = Step(
        stage=STAGE,
        inputs={"graph": graph.digest},
        config={"moved": to_builtins(tuple(moves))},
        tools=tool_versions("linglos-deploy", "onnx", "onnx-ir", "numpy"),
    )
    with atomic_file(out) as partial:
        partial.write_bytes(proto.SerializeToString(deterministic=True))
    return replace(open_onnx(out, lineage=(*graph.lineage, step)), warnings=graph.warnings)


class BalanceChannels(ir.passes.InPlacePass):
    """Move scales of channels where what was seen promises that INT8 gains.

    Requires: shapes are inferred. Ensures: the same function, but for rounding in float32; names stay.

    Args:
        seen: What was seen of what layers read, by tensor.

    Attributes:
        done: What was moved, in graph order.
    """

    def __init__(self, seen: Mapping[str, ChannelsSeen]) -> None:
        self._seen = seen
        self.done: list[Balanced] = []

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Edit in place."""
        for source, layers in _places(model.graph):
            if (moved := _choose(source, layers, self._seen)) is not None:
                _carry_out(moved, source, layers, model.graph)
                self.done.append(moved)
        return ir.passes.PassResult(model, modified=bool(self.done))


class BalanceAgain(ir.passes.InPlacePass):
    """Move scales of channels as they were moved before, of the same graph.

    Args:
        moves: What :class:`BalanceChannels` did.
    """

    def __init__(self, moves: Sequence[Balanced]) -> None:
        self._moves = {move.maker: move for move in moves}

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Edit in place.

        Raises:
            ExportError: The graph has no such place.
        """
        left = dict(self._moves)
        for source, layers in _places(model.graph):
            move = left.pop(node_name(source.node), None)
            if move is not None and len(move.steps) == source.spread.size:
                _carry_out(move, source, layers, model.graph)
        if left:
            raise ExportError(
                "The scales of the graph's channels cannot be moved as they were.",
                found=f"no node that makes channels for layers alone, called '{next(iter(left))}'",
                expected="the graph that they were moved in",
            )
        return ir.passes.PassResult(model, modified=bool(self._moves))


def _places(graph: ir.Graph) -> list[tuple[Source, list[Layer]]]:
    """Return what makes channels for nothing but layers, each with them, in graph order."""
    layers = {id(layer.node): layer for layer in find_layers(graph) if layer.inside is None}
    found = []
    for source in find_sources(graph, layers):
        readers = find_readers(source.result, source.axis, layers)
        if not readers or not is_own(source):
            continue
        reading = list({id(reader.layer.node): reader.layer for reader in readers}.values())
        gains = [channel_gains(layer) for layer in reading]
        fit = all(values is not None and values.shape == source.spread.shape for values in gains)
        if fit and len(reading) == len(readers):
            found.append((source, reading))
    return found


def _choose(source: Source, layers: Sequence[Layer], seen: Mapping[str, ChannelsSeen]) -> Balanced | None:
    """Return the scales with the least error in INT8, if they promise enough."""
    integer = [layer for layer in layers if in_integers(layer)]
    readings = [reading for layer in integer if (reading := _Reading.of(layer, seen)) is not None]
    if not readings or len(readings) < len(integer):
        return None
    if any(reading.seen.reach.shape != source.spread.shape for reading in readings):
        return None
    reach = np.max([reading.seen.reach for reading in readings], axis=0)
    before = sum(reading.cost(np.ones_like(reach)) for reading in readings)
    quiet = np.log2(np.maximum(reach, _SMALLEST * reach.max()))
    choices = [np.rint(_PER_OCTAVE * share * (quiet - quiet.mean())).astype(int) for share in _SHARES]
    costs = [sum(reading.cost(np.exp2(choice / _PER_OCTAVE)) for reading in readings) for choice in choices]
    best = int(np.argmin(costs))
    gain = 10 * math.log10(before / costs[best]) if costs[best] > 0 and math.isfinite(before) else 0.0
    if not gain >= LEAST_GAIN_DB:
        return None
    names = tuple(layer.name for layer in layers)
    return Balanced(node_name(source.node), names, round(gain, 2), tuple(int(step) for step in choices[best]))


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a layer in INT8 reads: its weight by groups, and what was seen of each channel."""

    blocks: Floats
    seen: ChannelsSeen

    @classmethod
    def of(cls, layer: Layer, seen: Mapping[str, ChannelsSeen]) -> _Reading | None:
        """Return what was seen of a layer's data; ``None`` where that says nothing usable."""
        channels, blocks = seen.get(str(layer.data.name)), weight_blocks(layer)
        if channels is None or blocks is None:
            return None
        usable = np.isfinite(channels.reach).all() and channels.reach.max(initial=0.0) > 0
        return cls(blocks, channels) if usable else None

    def cost(self, scale: Floats) -> float:
        """Return the squared error of the layer's outputs, but for a factor.

        The steps of the activation are as wide as its loudest channel asks for, those of a weight as each output's
        largest entry does. An error of a weight counts by the mean square of what it is multiplied with.
        """
        groups, _, channels, places = self.blocks.shape
        shape = (groups, 1, channels)
        scaled = self.blocks * scale.reshape(*shape, 1)
        widest = np.square(np.abs(scaled).max(axis=(2, 3)))  # (groups, outputs)
        power = (self.seen.power / np.square(scale)).reshape(shape).sum(axis=2)
        reach = float((self.seen.reach / scale).max())
        of_activation, of_weight = reach**2 * float(np.square(scaled).sum()), places * float((widest * power).sum())
        return float(of_activation + WEIGHT_ERRORS * of_weight)


def _carry_out(move: Balanced, source: Source, layers: Sequence[Layer], graph: ir.Graph) -> None:
    scale = move.scale
    rescale(source, scale, np.zeros_like(scale))
    for layer in layers:
        absorb(layer, scale, np.zeros_like(scale), graph)
