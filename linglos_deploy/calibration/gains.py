"""How much the error of each channel weighs at the layers that read it, from the weights of the graph alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from linglos_deploy.calibration.groups import ChannelGroups, group_channels
from linglos_deploy.graph.gains import channel_axis, channel_gains, in_integers
from linglos_deploy.graph.layers import Layer, find_layers
from linglos_deploy.graph.passes.running import read_ir


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
        if str(layer.data.name) in readers and in_integers(layer):
            readers[str(layer.data.name)].append(layer)
    return {name: _weighing(layers) for name, layers in readers.items()}


def _weighing(layers: list[Layer]) -> Weighing | str:
    if not layers:
        return "no layer reads it directly"
    found = [(channel_axis(layer), channel_gains(layer)) for layer in layers]
    axes = {axis for axis, _ in found}
    gains = [values for _, values in found if values is not None]
    if len(axes) > 1:
        return "its readers count channels along different axes"
    if len(gains) < len(found) or len({values.shape for values in gains}) > 1:
        return "the weights of its readers have no norm per channel"
    return Weighing(axes.pop(), group_channels(np.sum(gains, axis=0)))
