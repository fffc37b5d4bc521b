"""Reshapes whose target is computed in the graph get a constant target where only one size is open.

before: x -> Reshape(x, Concat(Shape(image)[0], 160, Mul(Shape(..), Shape(..))))
after:  x -> Reshape(x, [0, 160, -1])
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from linglos_deploy.graph.topology import Shape, constants, remove_dead, shape_of


def fix_reshape_targets(model: onnx.ModelProto) -> bool:
    """Make the targets of Reshape nodes constant; return whether anything changed.

    Requires the symbolic shapes that PyTorch's exporter writes into ``value_info``.
    """
    graph = model.graph
    shapes = {value.name: shape_of(value) for value in (*graph.input, *graph.value_info, *graph.output)}
    fixed = constants(graph)
    changed = False
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[1] in fixed or node.output[0] not in shapes:
            continue
        target = _target(shapes.get(node.input[0], ()), shapes[node.output[0]])
        if target is not None:
            name = f"{node.output[0]}_target"
            graph.initializer.append(numpy_helper.from_array(np.array(target, dtype=np.int64), name))
            node.input[1] = name
            del node.attribute[:]  # allowzero: 0 now means 'as it was'
            changed = True
    if changed:
        remove_dead(graph)
    return changed


def _target(before: Shape, after: Shape) -> list[int] | None:
    """Return ``after`` with 0 for sizes that stay, and -1 for one other size that is not known; else ``None``."""
    target = []
    for axis, size in enumerate(after):
        if isinstance(size, int):
            target.append(size)
        elif axis < len(before) and size is not None and before[axis] == size:
            target.append(0)
        else:
            target.append(-1)
    return target if target.count(-1) <= 1 else None
