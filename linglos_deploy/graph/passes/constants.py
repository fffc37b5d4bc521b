"""What an edit adds to a graph: constants, under names that nothing else bears."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from linglos_deploy.graph.links import subgraphs


def add_constant(graph: ir.Graph, name: str, values: npt.ArrayLike) -> ir.Value:
    """Add an initializer of the values' own element type; return it.

    Args:
        graph: Where it goes.
        name: Used by no other value.
        values: Of any shape; ``ml_dtypes`` for types that NumPy lacks.
    """
    tensor = ir.tensor(np.asarray(values), name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(np.shape(values)), const_value=tensor)
    graph.register_initializer(value)
    return value


def free_names(graph: ir.Graph) -> FreeNames:
    """Return a source of names that nothing in ``graph`` or its subgraphs bears."""
    taken = {value.name for value in (*graph.inputs, *graph.initializers.values())}
    for node in ir.traversal.RecursiveGraphIterator(graph):
        taken.update((node.name, *(value.name for value in (*node.outputs, *node.inputs) if value is not None)))
        for body in subgraphs(node):
            taken.update(value.name for value in (*body.inputs, *body.initializers.values()))
    return FreeNames({name for name in taken if name})


class FreeNames:
    """Hands out names, each once."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = taken

    def __call__(self, wanted: str) -> str:
        """Return ``wanted``, or with the first free number behind it."""
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name
