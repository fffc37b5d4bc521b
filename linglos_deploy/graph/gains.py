"""How much a layer makes of each channel that it reads, told from its weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.graph.layers import Layer
from linglos_deploy.graph.links import constant_array
from linglos_deploy.graph.operators import OutputAxis, operator
from linglos_deploy.graph.saliency import gate_behind, gate_fed_by

if TYPE_CHECKING:
    from numpy.typing import NDArray

SECOND, LAST = 1, -1


def channel_gains(layer: Layer) -> NDArray[np.float64] | None:
    """Return the sum of squares of the weights that multiply each channel of a layer's data, float64 of shape (C,).

    ``None`` where the weight is not finite or not of a form that has channels.
    """
    blocks = weight_blocks(layer)
    if blocks is None:
        return None
    with np.errstate(over="ignore"):
        gains = np.square(blocks).sum(axis=(1, 3)).reshape(-1)
    return gains if np.isfinite(gains).all() else None


def weight_blocks(layer: Layer) -> NDArray[np.float64] | None:
    """Return a layer's weight by groups: float64 of (groups, outputs of a group, channels of a group, places).

    A convolution has as many places as its kernel, a linear layer one. ``None`` where the weight is of no such form.
    """
    values = constant_array(layer.weight)
    if values is None or values.ndim < 2:
        return None
    wide = np.asarray(values, dtype=np.float64)
    axis = operator(layer.node).output_axis
    groups = layer.node.attributes.get_int("group", 1)
    if axis is OutputAxis.FIRST:  # (outputs, channels of a group, ...)
        return wide.reshape(groups, wide.shape[0] // groups, wide.shape[1], -1)
    if axis is OutputAxis.SECOND:  # (channels, outputs of a group, ...)
        return wide.reshape(groups, wide.shape[0] // groups, wide.shape[1], -1).swapaxes(1, 2)
    if wide.ndim != 2 or layer.weight_axis is None:
        return None
    return np.moveaxis(wide, layer.weight_axis, 0)[np.newaxis, :, :, np.newaxis]


def channel_axis(layer: Layer) -> int:
    """Return the data's axis of channels: the second one of a convolution, the last one of a linear layer."""
    return LAST if operator(layer.node).output_axis is OutputAxis.KEPT else SECOND


def in_integers(layer: Layer) -> bool:
    """Return whether INT8 is considered for a layer; gates and what they weigh stay in floating point."""
    if layer.inside is not None or not layer.constant or layer.weight_input == 0:
        return False
    if layer.node.attributes.get_int("transA", 0) != 0:
        return False
    return gate_fed_by(layer.node.outputs[0]) is None and gate_behind(layer.data) is None
