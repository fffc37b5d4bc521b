"""Which axis of a tensor counts channels: the one over which its reader sums."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from linglos_deploy.graph.operators import OutputAxis, operator
from linglos_deploy.graph.topology import attribute, constants, consumers

SECOND = 1
"""Of tensors that no layer reads: ONNX puts channels there."""


def channel_axes(model: onnx.ModelProto, tensors: Sequence[str]) -> dict[str, int]:
    """Return the axis of each tensor's channels: the second one for convolutions, the last one for linear layers.

    A tensor with several readers has the channels of the first one. Axes may be negative, to count from the last one.
    """
    readers, fixed = consumers(model.graph), constants(model.graph)
    return {
        name: next(
            (axis for node in readers.get(name, ()) if (axis := _summed_axis(node, name, set(fixed))) is not None),
            SECOND,
        )
        for name in tensors
    }


def _summed_axis(node: onnx.NodeProto, tensor: str, fixed: set[str]) -> int | None:
    row = operator(node)
    if not row.layer or not any(name in fixed for name in node.input[:2]):
        return None
    if row.output_axis is not OutputAxis.KEPT:
        return SECOND
    place = list(node.input).index(tensor)
    if place > 1:
        return None
    flag = attribute(node, ("transA", "transB")[place])
    return -1 if (place == 0) != bool(flag is not None and flag.i) else -2
