"""The tensor that a layer leaves behind, and what becomes of it without arithmetic.

A runtime that computes a layer in integers needs to know the range of what comes out where it stores that as integers
too. A ``Relu`` or ``Clip`` behind the layer is part of it: integers that start at zero clip as it does.
"""

from __future__ import annotations

import onnx_ir as ir

from linglos_deploy.graph.links import is_constant
from linglos_deploy.graph.operators import operator

CLIPPING = frozenset({"Relu", "Clip"})
"""What runtimes fold into the integers that a layer writes."""
_MOVING = frozenset({"MaxPool", "GlobalMaxPool"})
"""What picks values, beside changes of layout: the result has no value that its input lacks."""


def result_of(node: ir.Node) -> ir.Value | None:
    """Return the tensor behind a node and what clips its result: behind the ``Relu`` of ``Conv -> Relu -> Gelu``.

    ``None`` where the graph itself returns it, or a body of If, Loop or Scan reads it.
    """
    value = node.outputs[0]
    while (reader := _only_reader(value)) is not None and reader.op_type in CLIPPING and not reader.domain:
        if any(not is_constant(limit) for limit in reader.inputs[1:] if limit is not None):
            break
        value = reader.outputs[0]
    inner = any(reader.graph is not node.graph for reader in readers_of(value))
    return None if inner or value.is_graph_output() else value


def moves_to(value: ir.Value) -> ir.Value:
    """Return the last tensor that holds a tensor's values and no others, as long as one node only reads each."""
    while (reader := _only_reader(value)) is not None and not value.is_graph_output() and _picks(reader):
        if reader.inputs[0] is not value:
            break
        value = reader.outputs[0]
    return value


def readers_of(value: ir.Value) -> tuple[ir.Node, ...]:
    """Return the nodes that read a tensor, each once."""
    return tuple(dict.fromkeys(use.node for use in value.uses()))


def _only_reader(value: ir.Value) -> ir.Node | None:
    readers = readers_of(value)
    return readers[0] if len(readers) == 1 and not value.is_graph_output() else None


def _picks(node: ir.Node) -> bool:
    row = operator(node)
    return len(node.outputs) == 1 and (row.layout or (row.known and node.op_type in _MOVING))
