"""Names a person can find again: from the path of the PyTorch module that a node came from.

before: node_Conv_480 (getitem_3), val_67
after:  stem.2.0/Conv (stem.2.0/Conv), stages.0.1.attention/Reshape.shape
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Collection

import onnx

from linglos_deploy.graph.topology import consumers

SCOPES = "pkg.torch.onnx.name_scopes"


def read_scopes(model: onnx.ModelProto) -> dict[str, str]:
    """Return the module path that made each tensor, as PyTorch's exporter noted it in the nodes' metadata."""
    scopes = {}
    for node in model.graph.node:
        for entry in node.metadata_props:
            if entry.key == SCOPES:
                path = ast.literal_eval(entry.value)
                scopes.update(dict.fromkeys(node.output, str(path[-2]) if len(path) > 1 else ""))
    return scopes


def rename(model: onnx.ModelProto, scopes: dict[str, str], *, kept: Collection[str]) -> None:
    """Rename nodes, tensors and initializers in place.

    Args:
        model: The graph, with constants as initializers.
        scopes: Module path by old tensor name; see :func:`read_scopes`.
        kept: Initializers that already bear their PyTorch name.
    """
    graph = model.graph
    fixed = {value.name for value in (*graph.input, *graph.output)}
    taken: Counter[str] = Counter(fixed)
    names = {name: name for name in fixed}
    places: dict[str, str] = {}
    for node in graph.node:
        place = _scope(node, scopes, places, kept)
        places.update(dict.fromkeys(node.output, place))
        node.name = _free(f"{place}/{node.op_type}" if place else node.op_type, taken)
        for index, output in enumerate(node.output):
            if output and output not in fixed:
                names[output] = node.name if index == 0 else f"{node.name}:{index}"
    readers = consumers(graph)
    for tensor in graph.initializer:
        names[tensor.name] = _free(_constant_name(tensor.name, readers[tensor.name][0], kept), taken)
    for node in graph.node:
        node.input[:] = [names[name] if name else "" for name in node.input]
        node.output[:] = [names[name] if name else "" for name in node.output]
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]
    del graph.value_info[:]


def _scope(node: onnx.NodeProto, scopes: dict[str, str], places: dict[str, str], kept: Collection[str]) -> str:
    for output in node.output:
        if output in scopes:
            return scopes[output]
    for (
        name
    ) in node.input:  # a node that an optimizer made: it sits where its weights sit, or where its data comes from
        if name in kept:
            return str(name).rpartition(".")[0]
    return next((places[name] for name in node.input if name in places), "")


def _constant_name(name: str, reader: onnx.NodeProto, kept: Collection[str]) -> str:
    if name in kept:
        return name
    position = list(reader.input).index(name)
    if position == 2 and reader.op_type in {"Conv", "Gemm"} and reader.input[1] in kept:
        return str(reader.input[1]).rpartition(".")[0] + ".bias"
    formal = onnx.defs.get_schema(reader.op_type).inputs
    return f"{reader.name}.{formal[min(position, len(formal) - 1)].name}"


def _free(name: str, taken: Counter[str]) -> str:
    taken[name] += 1
    if taken[name] == 1:
        return name
    return _free(f"{name}_{taken[name] - 1}", taken)
