"""How much the error of each channel weighs at the layers that read it, from the weights of the graph alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx

from linglos_deploy.calibration.groups import ChannelGroups, group_channels
from linglos_deploy.graph.layers import Layer, find_layers
from linglos_deploy.graph.links import constant_array
from linglos_deploy.graph.operators import OutputAxis, operator
from linglos_deploy.graph.passes.running import read_ir
from linglos_deploy.graph.saliency import gate_behind, gate_fed_by

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SECOND = 1
_LAST = -1


@dataclass(frozen=True, slots=True)
class Weighing:
    """How the readers of a tensor weigh its channels.

    Attributes:
        axis: The tensor's axis of channels: the second one, or the last one counted from the end.
        groups: Channels with similar gains.
    """

    axis: int
    groups: ChannelGroups


def weighings(model: onnx.ModelProto, tensors: Sequence[str]) -> dict[str, Weighing | str]:
    """Return how each tensor's channels are weighed, or why that cannot be said, in words.

    What counts are the layers that could read the tensor in INT8. All of them together make the gain of a channel.
    """
    graph = read_ir(model).graph
    readers: dict[str, list[Layer]] = {name: [] for name in tensors}
    for layer in find_layers(graph):
        if str(layer.data.name) in readers and _in_integers(layer):
            readers[str(layer.data.name)].append(layer)
    return {name: _weighing(layers) for name, layers in readers.items()}


def channel_gains(layer: Layer) -> NDArray[np.float64] | None:
    """Return the sum of squares of the weights that multiply each channel of a layer's data, float64 of shape (C,).

    ``None`` where the weight is not finite or not of a form that has channels.
    """
    values = constant_array(layer.weight)
    if values is None or values.ndim < 2:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.square(values.astype(np.float64))
    if not np.isfinite(squares).all():
        return None
    axis = operator(layer.node).output_axis
    if axis is OutputAxis.FIRST:  # (outputs, channels of a group, ...): a group's outputs read that group's channels
        groups = layer.node.attributes.get_int("group", 1)
        parts = squares.reshape(groups, squares.shape[0] // groups, squares.shape[1], -1)
        return np.asarray(parts.sum(axis=(1, 3)).reshape(-1))
    if axis is OutputAxis.SECOND:
        return np.asarray(squares.reshape(len(squares), -1).sum(axis=1))
    if values.ndim != 2 or layer.weight_axis is None:
        return None
    return np.asarray(squares.sum(axis=layer.weight_axis))


def _in_integers(layer: Layer) -> bool:
    """Return whether INT8 is considered for a layer; gates and what they weigh stay in floating point."""
    if layer.inside is not None or not layer.constant or layer.weight_input == 0:
        return False
    return gate_fed_by(layer.node.outputs[0]) is None and gate_behind(layer.data) is None


def _weighing(layers: list[Layer]) -> Weighing | str:
    if not layers:
        return "no layer reads it directly"
    found = [(_axis(layer), channel_gains(layer)) for layer in layers]
    axes = {axis for axis, _ in found}
    gains = [values for _, values in found if values is not None]
    if len(axes) > 1:
        return "its readers count channels along different axes"
    if len(gains) < len(found) or len({values.shape for values in gains}) > 1:
        return "the weights of its readers have no norm per channel"
    return Weighing(axes.pop(), group_channels(np.sum(gains, axis=0)))


def _axis(layer: Layer) -> int:
    return _LAST if operator(layer.node).output_axis is OutputAxis.KEPT else _SECOND
