"""Scales of channels move from what makes a tensor to what reads it, so that all channels need the same INT8 steps.

before: y = f(x) made by a layer norm or a linear map,       z = W y + b
after:  y' = (f(x) - m) / s, by other parameters of f,       z = (W diag(s)) y' + (b + W m)

The answers stay what they were: the scale passes through whatever lies between, which is checked operator by operator.
A shift m is possible behind a layer norm, where nothing but changes of layout lies between and no reader pads with
zeros; it is the norm's own, so that what is left is centred.

No image is needed: a layer norm says what its channels reach, and from there the weights do, map by map. What INT8 then
costs follows from both weights: one step for the activation, one for each output channel of the weight. The scales are
moved where that sum falls, by at least :data:`LEAST_GAIN_DB`; from the last layer to the first, so that a layer that
hands on loud channels is seen to be read softly.

M. Nagel et al., *Data-free quantization through weight equalization and bias correction*, ICCV 2019, equations 8 to 10,
is the same for pairs of linear maps, with other scales; G. Xiao et al., *SmoothQuant*, ICML 2023, equation 4, chooses
scales between the two weights as is done here, from data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from linglos_deploy.graph.gains import LAST, SECOND, channel_axis, channel_gains, in_integers, weight_blocks
from linglos_deploy.graph.layers import Layer, find_layers
from linglos_deploy.graph.links import constant_array, node_name
from linglos_deploy.graph.operators import OutputAxis, operator
from linglos_deploy.graph.passes.constants import add_constant, free_names

Floats = npt.NDArray[np.float64]

LEAST_GAIN_DB = 6.0
"""What moving scales must promise. Weights tell but roughly what channels reach: on the digits as trained, moves
that promised 3 dB gained nothing."""

_REACH = 3.5
"""Standard deviations that the steps of a tensor cover."""

_SHARES = (0.25, 0.5, 0.75, 1.0)
"""How much of the differences between channels is moved: some of it makes the weight harder to round."""

_HOMOGENEOUS = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
"""Operators with f(s x) = s f(x) for every s > 0, each channel for itself."""

_SMALLEST = 2.0**-20
"""Channels that are quieter than this share of the loudest are not made louder any further."""


@dataclass(frozen=True, slots=True)
class Equalized:
    """Scales that were moved.

    Attributes:
        maker: Name of the node that makes the channels.
        readers: Names of the layers that take the scales over.
        largest: Largest scale over the smallest.
        gain_db: By how much the error of the INT8 readers is expected to fall.
    """

    maker: str
    readers: tuple[str, ...]
    largest: float
    gain_db: float


class EqualizeChannels(ir.passes.InPlacePass):
    """Move scales of channels wherever that is exact and promises to pay.

    Requires: BatchNormalization is folded. Ensures: the same function, but for rounding in float32; names stay.

    Attributes:
        done: What was moved, in graph order.
    """

    def __init__(self) -> None:
        self.done: list[Equalized] = []

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Edit in place."""
        layers = {id(layer.node): layer for layer in find_layers(model.graph) if layer.inside is None}
        for source in reversed(find_sources(model.graph, layers)):
            readers = find_readers(source.result, source.axis, layers)
            if readers and (moved := _move(source, readers, model.graph)):
                self.done.append(moved)
        self.done.reverse()
        return ir.passes.PassResult(model, modified=bool(self.done))


@dataclass(frozen=True, slots=True)
class Source:
    """What makes channels, and can make them with other scales.

    Attributes:
        node: The node that holds the parameters.
        result: What it makes, with its bias added.
        axis: Where its channels are, counted from the end.
        spread: Standard deviation of each channel, as far as the parameters tell.
        middle: Mean of each channel, as far as the parameters tell.
        norm: Whether it is a layer norm, which can shift, too.
        weight: The parameter that scales, with the axis of the channels in it.
        bias: The parameter that shifts, if there is one.
    """

    node: ir.Node
    result: ir.Value
    axis: int
    spread: Floats
    middle: Floats
    norm: bool
    weight: tuple[ir.Value, int]
    bias: ir.Value | None


@dataclass(frozen=True, slots=True)
class Reader:
    """A layer at the end of a path from a source.

    Attributes:
        layer: The layer.
        moved: Whether nothing but changes of layout lies on the path.
    """

    layer: Layer
    moved: bool


def find_sources(graph: ir.Graph, layers: dict[int, Layer]) -> list[Source]:
    """Return what makes channels, in graph order; what comes in is followed from one to the next."""
    sources = []
    coming: dict[int, Floats] = {}
    for node in graph:
        source = _norm(node) or _linear(node, layers.get(id(node)), coming.get(id(node)))
        if source is not None:
            sources.append(source)
            power = np.sqrt(np.square(source.spread) + np.square(source.middle))
            for layer, _ in _paths(source.result, source.axis, layers):
                if layer is not None:
                    coming[id(layer.node)] = power
    return sources


def _norm(node: ir.Node) -> Source | None:
    if node.op_type not in ("LayerNormalization", "RMSNormalization") or node.domain not in ("", "ai.onnx"):
        return None
    axis = node.attributes.get_int("axis", -1)
    data = node.inputs[0]
    gamma, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    scale, shift = constant_array(gamma), constant_array(bias)
    rank = None if data is None or data.shape is None else len(data.shape)
    if gamma is None or scale is None or scale.ndim != 1 or axis not in (-1, None if rank is None else rank - 1):
        return None
    if bias is not None and (shift is None or shift.shape != scale.shape):
        return None
    spread = np.abs(scale.astype(np.float64))
    middle = np.zeros_like(spread) if shift is None else shift.astype(np.float64)
    return Source(node, node.outputs[0], -1, spread, middle, True, (gamma, 0), bias)


def _linear(node: ir.Node, layer: Layer | None, coming: Floats | None) -> Source | None:
    """Return a linear map with a constant weight, and the Add that is its bias.

    Args:
        node: The map.
        layer: The same as a layer, if it is one.
        coming: Root of the mean square of each channel that it reads, where it is known; all alike otherwise.
    """
    if layer is None or not layer.constant or layer.weight_input == 0 or layer.weight_axis is None:
        return None
    kept = operator(node).output_axis
    values = constant_array(layer.weight)
    if values is None or kept is OutputAxis.SECOND or (kept is OutputAxis.KEPT and values.ndim != 2):
        return None
    result, bias = node.outputs[0], node.inputs[2] if len(node.inputs) > 2 else None
    if node.op_type == "MatMul":
        result, bias = _added(result)
    shift = constant_array(bias)
    channels = values.shape[layer.weight_axis]
    if bias is not None and (shift is None or shift.reshape(-1).shape != (channels,)):
        return None
    blocks = weight_blocks(layer)
    if blocks is None or (kept is OutputAxis.KEPT and _turned(layer)):
        return None
    groups, _, inputs, _ = blocks.shape
    power = np.ones(groups * inputs) if coming is None or len(coming) != groups * inputs else np.square(coming)
    spread = np.sqrt((np.square(blocks).sum(axis=3) * power.reshape(groups, 1, inputs)).sum(axis=2)).reshape(channels)
    middle = np.zeros(channels) if shift is None else shift.astype(np.float64).reshape(-1)
    rank = None if result.shape is None else len(result.shape)
    if rank is None:
        return None
    axis = -1 if kept is OutputAxis.KEPT else 1 - rank
    return Source(node, result, axis, spread, middle, False, (layer.weight, layer.weight_axis), bias)


def _added(product: ir.Value) -> tuple[ir.Value, ir.Value | None]:
    """Return the sum of a product and a constant per channel, and that constant, if such a sum follows."""
    uses = tuple(product.uses())
    if len(uses) == 1 and uses[0].node.op_type == "Add" and not product.is_graph_output():
        node = uses[0].node
        other = node.inputs[1 - uses[0].idx]
        values = constant_array(other)
        if values is not None and values.ndim >= 1 and values.size == values.shape[-1]:
            return node.outputs[0], other
    return product, None


def find_readers(value: ir.Value, axis: int, layers: dict[int, Layer]) -> list[Reader] | None:
    """Return the layers that every path from ``value`` ends in; ``None`` if a path ends in anything else."""
    found = list(_paths(value, axis, layers))
    readers = [Reader(layer, moved) for layer, moved in found if layer is not None]
    return readers if len(readers) == len(found) else None


def _paths(value: ir.Value, axis: int, layers: dict[int, Layer]) -> Iterator[tuple[Layer | None, bool]]:
    """Yield where each path from ``value`` ends: a layer that can take its scales, or ``None``.

    With each end comes whether nothing but changes of layout lies on the path.
    """
    met: set[int] = set()
    waiting = [(value, axis, True)]
    while waiting:
        at, place, moved = waiting.pop()
        if at.is_graph_output() or at.shape is None:
            yield None, moved
            continue
        for use in at.uses():
            layer = layers.get(id(use.node))
            if layer is not None and layer.constant and use.idx == layer.data_input and layer.weight_input == 1:
                wanted = channel_axis(layer)
                fits = place == (wanted if wanted == LAST else SECOND - len(at.shape)) and not _turned(layer)
                yield layer if fits else None, moved
                continue
            step = _through(use.node, use.idx, at, place)
            if step is None or id(use.node) in met:  # two paths that join would bring the scale twice
                yield None, moved
                continue
            met.add(id(use.node))
            after, only_layout = step
            waiting.append((use.node.outputs[0], after, moved and only_layout))


def _turned(layer: Layer) -> bool:
    """Return whether a layer transposes its data first."""
    return layer.node.attributes.get_int("transA", 0) != 0


def _through(node: ir.Node, place: int, value: ir.Value, axis: int) -> tuple[int, bool] | None:
    """Return where the channels are behind a node that a scale passes through, and whether a shift does, too."""
    if node.domain not in ("", "ai.onnx") or len(node.outputs) != 1 or value.shape is None:
        return None
    result, rank = node.outputs[0].shape, len(value.shape)
    if result is None:
        return None
    if node.op_type in ("Identity", "Dropout"):
        return axis, True
    if node.op_type == "Transpose":
        order = node.attributes.get_ints("perm", tuple(reversed(range(rank))))
        return list(order).index(axis + rank) - rank, True
    if node.op_type in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
        return None if place or (after := _reshaped(value.shape, result, axis)) is None else (after, True)
    if node.op_type in _HOMOGENEOUS:
        return None if axis != SECOND - rank and "Pool" in node.op_type else (axis, False)
    if node.op_type == "Mul":
        other = node.inputs[1 - place]
        same = len(result) == rank and result[axis] == value.shape[axis]
        return (axis, False) if same and other is not value else None
    return None


def _reshaped(before: ir.Shape, after: ir.Shape, axis: int) -> int | None:
    """Return where an axis is behind a Reshape: the last one if both end in it, one with the same axes in front."""
    size = before[axis]
    if not isinstance(size, int):
        return None
    if axis == -1:
        return -1 if after[-1] == size else None
    place = axis + len(before)
    front = [before[index] for index in range(place + 1)]
    if len(after) <= place or [after[index] for index in range(place + 1)] != front:
        return None
    open_axes = [size for size in front if not isinstance(size, int)]
    return place - len(after) if len(open_axes) <= 1 and None not in open_axes else None


def _move(source: Source, readers: Sequence[Reader], graph: ir.Graph) -> Equalized | None:
    """Choose scales and shifts by what INT8 would cost, and move them if that pays."""
    layers = list({id(reader.layer.node): reader.layer for reader in readers}.values())
    if len(layers) < len(readers) or not is_own(source):
        return None
    weighed = [layer for layer in layers if in_integers(layer)]
    gains = [channel_gains(layer) for layer in layers]
    if not weighed or any(values is None or values.shape != source.spread.shape for values in gains):
        return None
    shift = np.zeros_like(source.middle)
    if source.norm and source.bias is not None and all(reader.moved and _shiftable(reader.layer) for reader in readers):
        shift = source.middle
    before = _cost(weighed, source.spread, source.middle, np.ones_like(shift))
    best, scale = min(
        ((_cost(weighed, source.spread, source.middle - shift, each), each) for each in _scales(source, shift)),
        key=lambda pair: pair[0],
    )
    gain = 10 * math.log10(before / best) if best > 0 and math.isfinite(before) else 0.0
    if gain < LEAST_GAIN_DB:
        return None
    rescale(source, scale, shift)
    for layer in layers:
        absorb(layer, scale, shift, graph)
    return Equalized(
        node_name(source.node),
        tuple(layer.name for layer in layers),
        float(scale.max() / scale.min()),
        round(gain, 2),
    )


def _scales(source: Source, shift: Floats) -> Iterator[Floats]:
    """Yield scales to try, their geometric mean 1."""
    yield np.ones_like(shift)
    reach = _REACH * source.spread + np.abs(source.middle - shift)
    if not reach.max() > 0:
        return
    quiet = np.maximum(reach, _SMALLEST * reach.max())
    logarithms = np.log(quiet) - np.log(quiet).mean()
    for share in _SHARES:
        yield np.exp(share * logarithms)


def _cost(layers: Sequence[Layer], spread: Floats, middle: Floats, scale: Floats) -> float:
    """Return the squared error of all outputs of ``layers`` in INT8, but for a factor.

    The steps of the activation are as wide as its loudest channel asks for, those of a weight as each output's largest
    entry does. An error of a weight counts by the mean square of what it is multiplied with.
    """
    reach = float(((_REACH * spread + np.abs(middle)) / scale).max())
    power = (np.square(spread) + np.square(middle)) / np.square(scale)
    total = 0.0
    for layer in layers:
        blocks = weight_blocks(layer)
        assert blocks is not None
        groups, _, channels, places = blocks.shape
        scaled = blocks * scale.reshape(groups, 1, channels, 1)
        widest = np.square(np.abs(scaled).max(axis=(2, 3)))  # (groups, outputs)
        total += reach**2 * float(np.square(scaled).sum())
        total += places * float((widest * power.reshape(groups, 1, channels).sum(axis=2)).sum())
    return total


def is_own(source: Source) -> bool:
    """Return whether the parameters of a source are its alone."""
    return all(_alone(value) for value in (source.weight[0], source.bias) if value is not None)


def _alone(value: ir.Value) -> bool:
    """Return whether a constant can be changed without anybody else seeing it."""
    return value.is_initializer() and len(value.uses()) == 1 and not value.is_graph_output()


def _shiftable(layer: Layer) -> bool:
    """Return whether a constant added to each channel becomes one added to each output."""
    node = layer.node
    if node.op_type == "Gemm":
        return node.attributes.get_float("alpha", 1.0) == 1.0 == node.attributes.get_float("beta", 1.0)
    padded = any(node.attributes.get_ints("pads", ())) or node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET"
    return node.op_type == "Conv" and not padded


def rescale(source: Source, scale: Floats, shift: Floats) -> None:
    """Let a source make its channels with ``shift`` taken off and divided by ``scale``."""
    weight, axis = source.weight
    _multiply(weight, 1 / scale, axis)
    if source.bias is not None:
        values = constant_array(source.bias)
        assert values is not None
        moved = (values.astype(np.float64).reshape(-1) - shift) / scale
        _set(source.bias, moved.reshape(values.shape))


def absorb(layer: Layer, scale: Floats, shift: Floats, graph: ir.Graph) -> None:
    """Let a layer read channels that were divided by ``scale`` after ``shift`` was taken off."""
    node, names = layer.node, free_names(graph)
    weight = layer.weight
    blocks, values = weight_blocks(layer), constant_array(weight)
    assert blocks is not None
    assert values is not None
    groups, outputs, channels, _ = blocks.shape
    if shift.any():
        added = (blocks.sum(axis=3) * shift.reshape(groups, 1, channels)).sum(axis=2).reshape(groups * outputs)
        known = node.inputs[2] if len(node.inputs) > 2 else None
        old = constant_array(known)
        total = added if old is None else old.astype(np.float64).reshape(-1) + added
        if known is not None and _alone(known):
            _set(known, total)
        else:
            name = f"{known.name}_shifted" if known is not None else f"{node_name(node)}.bias"
            node.resize_inputs(3)
            node.replace_input_with(2, add_constant(graph, names(name), total.astype(values.dtype)))
    if not _alone(weight):  # another layer reads the same numbers
        weight = add_constant(graph, names(f"{weight.name}_equalized"), values)
        node.replace_input_with(layer.weight_input, weight)
    axis = operator(node).output_axis
    if axis is OutputAxis.FIRST:  # (outputs, channels of a group, ...)
        along = np.repeat(scale.reshape(groups, channels), outputs, axis=0)
        _set(weight, values.astype(np.float64) * along.reshape(along.shape + (1,) * (values.ndim - 2)))
    elif axis is OutputAxis.SECOND:
        _multiply(weight, scale, 0)
    else:
        assert layer.weight_axis is not None
        _multiply(weight, scale, 1 - layer.weight_axis)


def _multiply(value: ir.Value, factors: Floats, axis: int) -> None:
    values = constant_array(value)
    assert values is not None
    shape = [-1 if index == axis else 1 for index in range(values.ndim)]
    _set(value, values.astype(np.float64) * factors.reshape(shape))


def _set(value: ir.Value, values: Floats) -> None:
    known = constant_array(value)
    assert known is not None
    value.const_value = ir.tensor(values.astype(known.dtype), name=value.name)
    value.shape = ir.Shape(values.shape)
