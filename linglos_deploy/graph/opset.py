"""A graph in another opset: the same function, spelled in the operators of that opset, every name kept.

before: opset 9   image -> Upsample(scales) -> up -> Clip(min=0, max=6) -> y
after:  opset 17  image -> Resize(scales, asymmetric, floor) -> up -> Clip(Constant, Constant) -> y

The work is done by onnx's own converter. On graphs of opset 7 and later that others made it was right wherever
onnxscript's was and in many places more: onnxscript knows opsets from 18 only, and falls back to the former. What is
mended here is what the converter was seen to lose: it is without local functions, breaks graphs of the time when
initializers had to be inputs, and turns the Upsample and Resize of opsets before 11 into a Resize with other sampling
points. Whether a converted graph answers the same is checked by :mod:`linglos_deploy.exporters.conversion`.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import onnx.inliner
import onnx.version_converter
from onnx import helper

from linglos_deploy.errors import ExportError, UsageError
from linglos_deploy.graph.topology import every_node, replace_field

OLDEST_OPSET = 7
"""Older graphs say what is broadcast by attributes that no converter here understands."""

SAMPLING_OPSET = 11
"""From here on Resize says where it samples; before, the points were those of ``asymmetric``, rounded down."""

_DEFAULT_DOMAINS = {"", "ai.onnx"}


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators that a graph uses; 0 if it uses none."""
    return max((entry.version for entry in model.opset_import if entry.domain in _DEFAULT_DOMAINS), default=0)


def to_opset(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    """Return a graph in a later opset; itself if it is there already.

    Names of inputs, outputs, tensors and nodes stay (of several nodes that replace one, the last has its name); nodes
    without a name get one. Initializers are no longer inputs as well.

    Args:
        model: The graph, of opset 7 or later; it is not changed.
        version: The wanted opset.

    Raises:
        UsageError: The graph is of a later opset, or of one before 7.
        ExportError: It holds an operator that cannot be converted.
    """
    found = opset_of(model)
    if found == version:
        return model
    if not OLDEST_OPSET <= found < version:
        raise UsageError(
            f"A graph of opset {found} cannot be converted to opset {version}.",
            found=f"opset {found}",
            expected=f"opset {OLDEST_OPSET} to {version}",
            next_step="export the model again, with a later opset" if found < OLDEST_OPSET else f"--opset {found}",
        )
    try:
        converted = onnx.version_converter.convert_version(_prepared(model), version)
    except (RuntimeError, onnx.version_converter.ConvertError, onnx.checker.ValidationError) as error:
        raise ExportError(
            f"The graph cannot be converted from opset {found} to {version}.",
            found=(str(error).strip() or type(error).__name__).splitlines()[0],
            expected="operators that onnx's converter knows",
            next_step=f"export the model again with opset {version}",
        ) from error
    _restore_tensor_names(model, converted)
    if found < SAMPLING_OPSET:
        _sample_as_before(model, converted)
    _name_nodes(converted, before={node.output[0]: node.name for node in every_node(model.graph) if node.output})
    _drop_replaced_opsets(model, converted)
    return converted


def _prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy that the converter can take: functions inlined, initializers no inputs."""
    prepared = onnx.ModelProto()
    prepared.CopyFrom(onnx.inliner.inline_local_functions(model) if model.functions else model)
    initializers = {tensor.name for tensor in prepared.graph.initializer}
    replace_field(prepared.graph.input, [value for value in prepared.graph.input if value.name not in initializers])
    prepared.ir_version = max(prepared.ir_version, 8)  # since 4, an initializer need not be an input
    return prepared


def _restore_tensor_names(model: onnx.ModelProto, converted: onnx.ModelProto) -> None:
    """Call tensors as before that the converter renamed when it put another operator in the place of one.

    A node that reads such a tensor shows which one it is: its first output tells it in both graphs.

    Raises:
        ExportError: A tensor that is read somewhere cannot be found again.
    """
    nodes = list(every_node(converted.graph))
    known = {name for node in nodes for name in node.output} | {tensor.name for tensor in converted.graph.initializer}
    made = {name for node in every_node(model.graph) for name in node.output if name}
    readers = [node for node in every_node(model.graph) if node.output]
    lost = {name for node in readers for name in node.input if name in made and name not in known}
    while lost:
        counterparts = {node.output[0]: node for node in nodes if node.output}
        found: dict[str, str] = {}
        for reader in readers:
            twin = counterparts.get(reader.output[0])
            for slot, name in enumerate(reader.input):
                if name in lost and twin is not None and slot < len(twin.input) and twin.input[slot] not in made:
                    found[twin.input[slot]] = name
        if not found:
            raise ExportError(
                "Converting the graph lost the name of a tensor.",
                found=", ".join(sorted(lost)[:5]),
                expected="the names of the original graph",
                next_step="export the model again, with opset 13 or later",
            )
        for node in nodes:
            for names in (node.input, node.output):
                names[:] = [found.get(name, name) for name in names]
        lost -= set(found.values())


def _sample_as_before(model: onnx.ModelProto, converted: onnx.ModelProto) -> None:
    """Let each Resize that stands for an Upsample or Resize of an opset before 11 sample where that one did."""
    resized = {node.output[0] for node in every_node(model.graph) if node.op_type in {"Upsample", "Resize"}}
    for node in every_node(converted.graph):
        if node.op_type == "Resize" and node.output[0] in resized:
            kept = [entry for entry in node.attribute if entry.name == "mode"]
            sampling = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            replace_field(
                node.attribute, [*kept, *(helper.make_attribute(name, text) for name, text in sampling.items())]
            )


def _name_nodes(converted: onnx.ModelProto, *, before: Mapping[str, str]) -> None:
    """Name the nodes that have no name: as the node that made the same tensor before, else after that tensor."""
    taken = {node.name for node in every_node(converted.graph)}
    for node in every_node(converted.graph):
        if not node.name:
            made = next(filter(None, node.output), "")
            name = base = before.get(made) or f"{node.op_type}:{made}"
            number = 1
            while name in taken:
                number += 1
                name = f"{base}_{number}"
            node.name = name
            taken.add(name)


def _drop_replaced_opsets(model: onnx.ModelProto, converted: onnx.ModelProto) -> None:
    """Keep the versions of foreign operators as they were, where the graph still has such operators."""
    foreign = {entry.domain: entry.version for entry in model.opset_import if entry.domain not in _DEFAULT_DOMAINS}
    used = {node.domain for node in every_node(converted.graph)}
    kept = [helper.make_opsetid("", opset_of(converted))]
    kept += [helper.make_opsetid(domain, number) for domain, number in foreign.items() if domain in used]
    replace_field(converted.opset_import, kept)
