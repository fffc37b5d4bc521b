"""Reshapes whose target is computed in the graph get a constant target where only one size is open.

before: x -> Reshape(x, Concat(Shape(image)[0], 160, Mul(Shape(..), Shape(..))))
after:  x -> Reshape(x, [0, 160, -1])
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult
from onnx_ir.passes.common import RemoveUnusedNodesPass

from linglos_deploy.graph.links import is_constant
from linglos_deploy.graph.passes.constants import add_constant


class FixReshapeTargets(InPlacePass):
    """Make the targets of Reshape nodes constant.

    Reads the symbolic shapes that PyTorch's exporter writes down; without shapes it changes nothing.
    """

    def call(self, model: ir.Model) -> PassResult:
        """Edit ``model``."""
        changed = False
        for node in list(model.graph):
            if node.op_type == "Reshape" and node.domain == "":
                changed |= _fix(node, model.graph)
        if changed:
            RemoveUnusedNodesPass()(model)  # what computed the targets
        return PassResult(model, changed)


def _fix(node: ir.Node, graph: ir.Graph) -> bool:
    data, wanted = node.inputs
    made = node.outputs[0]
    if data is None or wanted is None or made.shape is None or is_constant(wanted):
        return False
    target = _target(data.shape, made.shape)
    if target is None:
        return False
    constant = add_constant(graph, f"{made.name}_target", np.array(target, dtype=np.int64))
    node.replace_input_with(1, constant)
    node.attributes.clear()  # allowzero: 0 now means 'as it was'
    return True


def _target(before: ir.Shape | None, after: ir.Shape) -> list[int] | None:
    """Return ``after`` with 0 for sizes that stay, and -1 for one other size that is not known; else ``None``."""
    target = []
    for axis, size in enumerate(after):
        if isinstance(size, int):
            target.append(size)
        elif before is not None and axis < len(before) and size.value is not None and before[axis] == size:
            target.append(0)
        else:
            target.append(-1)
    return target if target.count(-1) <= 1 else None
