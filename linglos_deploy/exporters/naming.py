"""Names a person can find again: from the path of the PyTorch module that a node came from.

before: node_Conv_480 (getitem_3), val_67
after:  stem.2.0/Conv (stem.2.0/Conv), stages.0.1.attention/Reshape.shape
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping

import onnx

from linglos_deploy.backends.calling import Flat
from linglos_deploy.graph.topology import consumers, replace_field

SCOPES = "pkg.torch.onnx.name_scopes"
NOWHERE = "_empty_nn_module_stack_from_metadata_hook"
"""What PyTorch's exporter writes where it does not know the module."""

WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


def read_scopes(model: onnx.ModelProto) -> dict[str, str]:
    """Return the module path that made each tensor, as PyTorch's exporter noted it in the nodes' metadata."""
    scopes = {}
    for node in model.graph.node:
        for entry in node.metadata_props:
            if entry.key == SCOPES:
                path = [str(part) for part in ast.literal_eval(entry.value)[:-1]]
                if path and path[-1] != NOWHERE:
                    scopes.update(dict.fromkeys(node.output, _inside(path[-1])))
    return scopes


def rename(model: onnx.ModelProto, scopes: Mapping[str, str], *, kept: Mapping[str, str]) -> None:
    """Rename nodes, tensors and initializers in place; every output gets a node that makes it.

    Args:
        model: The graph, with constants as initializers.
        scopes: Module path by old tensor name; see :func:`read_scopes`.
        kept: PyTorch's name of each weight, by its name in the graph.
    """
    graph = model.graph
    _make_constant_outputs(graph)
    places = _places(graph, scopes, kept)
    _part_weights(graph, places, kept := dict(kept))
    fixed = {value.name for value in (*graph.input, *graph.output)}
    taken: Counter[str] = Counter(fixed)
    names = {name: name for name in fixed}
    for node, place in zip(graph.node, places, strict=True):
        node.name = _free(f"{place}/{node.op_type}" if place else node.op_type, taken)
        for index, output in enumerate(node.output):
            if output and output not in fixed:
                names[output] = node.name if index == 0 else f"{node.name}:{index}"
    reader = {name: index for index, node in reversed(list(enumerate(graph.node))) for name in _read(node)}
    unused = Counter(set(kept.values()) - {kept[tensor.name] for tensor in graph.initializer if tensor.name in kept})
    for tensor in graph.initializer:
        if tensor.name in kept:
            names[tensor.name] = _free(kept[tensor.name], taken)
    for tensor in graph.initializer:
        if tensor.name not in names:
            index = reader[tensor.name]
            names[tensor.name] = _free(_constant_name(tensor.name, graph.node[index], places[index], unused), taken)
    for inner in _graphs(graph):
        for node in inner.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]
        for tensor in inner.initializer:
            tensor.name = names.get(tensor.name, tensor.name)
    del graph.value_info[:]


def _inside(path: str) -> str:
    """Return the path inside the module that is exported, without the wrapper that PyTorch was given."""
    return path.removeprefix(Flat.PREFIX).lstrip(".")


def _make_constant_outputs(graph: onnx.GraphProto) -> None:
    """Let an Identity make each output that is a constant: runtimes and passes look for the node behind an output."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for value in graph.output:
        if value.name in constants:
            tensor = constants[value.name]
            tensor.name = f"{value.name}_value"
            for inner in _graphs(graph):
                for node in inner.node:
                    node.input[:] = [tensor.name if name == value.name else name for name in node.input]
            graph.node.append(onnx.helper.make_node("Identity", [tensor.name], [value.name]))


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(attribute.g)


def _read(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the tensors that a node reads, itself or inside the body of an If, Loop or Scan."""
    yield from node.input
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            for inner in _graphs(attribute.g):
                yield from (name for each in inner.node for name in each.input)


def _places(graph: onnx.GraphProto, scopes: Mapping[str, str], kept: Mapping[str, str]) -> list[str]:
    """Return the module path of every node.

    An optimizer that merges nodes keeps the last one's output, so most results still tell where they were made. The
    rest sits where its weights sit; else with the one node that reads it, for it is the first half of a merge; else
    where its data comes from.
    """
    readers = consumers(graph)
    known = [next((scopes[name] for name in node.output if name in scopes), None) for node in graph.node]
    found = [
        _weight_place(node, readers, kept) if place is None else place
        for node, place in zip(graph.node, known, strict=True)
    ]
    position = {id(node): index for index, node in enumerate(graph.node)}
    for index in range(len(found) - 1, -1, -1):
        node = graph.node[index]
        following = [reader for name in node.output if name for reader in readers.get(name, ())]
        if found[index] is None and len(following) == 1:
            found[index] = found[position[id(following[0])]]
    made: dict[str, str] = {}
    for index, node in enumerate(graph.node):
        place = found[index]
        if place is None:
            place = next((made[name] for name in node.input if name in made), "")
            found[index] = place
        made.update(dict.fromkeys(node.output, place))
    return [place or "" for place in found]


def _weight_place(
    node: onnx.NodeProto, readers: Mapping[str, list[onnx.NodeProto]], kept: Mapping[str, str]
) -> str | None:
    """Return the module of the first weight that only ``node`` reads: equal weights may have been made one."""
    own = (name for name in node.input if name in kept and len(readers[name]) == 1)
    return next((kept[name].rpartition(".")[0] for name in own), None)


def _part_weights(graph: onnx.GraphProto, places: list[str], kept: dict[str, str]) -> None:
    """Give each module its own copy of a vector that optimizers made one because the values were equal.

    before: a/Gemm(.., a.bias), b/Gemm(.., a.bias)
    after:  a/Gemm(.., a.bias), b/Gemm(.., b.bias)
    """
    readers = consumers(graph)
    vectors = {
        tensor.name: tensor
        for tensor in graph.initializer
        if tensor.name in kept and len(tensor.dims) == 1 and len(readers.get(tensor.name, ())) > 1
    }
    for number, (node, place) in enumerate(zip(graph.node, places, strict=True)):
        for index, name in enumerate(node.input):
            module, _, leaf = kept[name].rpartition(".") if name in vectors else (place, "", "")
            if module == place:
                continue
            copy = graph.initializer.add()
            copy.CopyFrom(vectors[name])
            copy.name = f"{name}_of_node_{number}"
            node.input[index] = copy.name
            wanted = f"{place}.{leaf}".lstrip(".")
            if wanted in kept.values():
                kept[copy.name] = wanted
    read = {name for inner in _graphs(graph) for node in inner.node for name in node.input}
    read.update(value.name for value in graph.output)
    replace_field(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in read])


def _constant_name(name: str, reader: onnx.NodeProto, place: str, unused: Counter[str]) -> str:
    """Return what to call a constant: the weight or the bias of its module that no longer exists as such, or a role."""
    if name not in reader.input:
        return f"{reader.name}.inside"
    position = list(reader.input).index(name)
    if reader.op_type in WEIGHTED and position in (1, 2):
        parameter = f"{place}.{('weight', 'bias')[position - 1]}".lstrip(".")
        if position == 2 or unused[parameter]:
            return parameter
    if not onnx.defs.has(reader.op_type):
        return f"{reader.name}.{position}"
    formal = onnx.defs.get_schema(reader.op_type).inputs
    return f"{reader.name}.{formal[min(position, len(formal) - 1)].name}"


def _free(name: str, taken: Counter[str]) -> str:
    taken[name] += 1
    if taken[name] == 1:
        return name
    return _free(f"{name}_{taken[name] - 1}", taken)
