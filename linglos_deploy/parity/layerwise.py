"""Where does a candidate graph start to deviate? Tensors of the same name in two graphs, in graph order."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import onnx

from linglos_deploy.artifacts import OnnxArtifact, load_onnx, onnx_signature
from linglos_deploy.backends.base import Runtime
from linglos_deploy.choices import Precision
from linglos_deploy.errors import DataError
from linglos_deploy.files import sha256_file
from linglos_deploy.graph.topology import producers, value_shapes, value_types
from linglos_deploy.parity.metrics import Difference
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.reports.parity import Finding, LayerDifference, LayerReport, Misshapen
from linglos_deploy.signature import Batch, ModelSignature, TensorSpec

FLOOR_DB = {Precision.FP16: 20.0, Precision.BF16: 10.0, Precision.INT8: 3.0}
"""SQNR below which an inner tensor is lost, whatever the outputs say; clean graphs of random weights keep 8 dB more."""
LAYER_SLACK_DB = {Precision.FP16: 4.0, Precision.BF16: 4.0, Precision.INT8: 3.0}
"""What another machine may cost an inner tensor on the same images."""

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)


CHOICES = frozenset({"TopK", "ArgMax", "ArgMin", "NonMaxSuppression"})
"""Operators whose answer jumps where two numbers change their order."""


def compare_layers(
    reference: OnnxArtifact,
    candidate: OnnxArtifact,
    batches: Iterable[Batch],
    *,
    runtime: Runtime,
    limit_db: float = 20.0,
    ordered: bool = True,
    prepare: Callable[[onnx.ModelProto], onnx.ModelProto] = lambda model: model,
    progress: Progress = SILENT,
) -> LayerReport:
    """Run both graphs and compare every floating-point tensor that both make, each fed by its own graph's errors.

    Args:
        reference: The graph to trust.
        candidate: The graph to look into; it must have kept the names of the tensors it did not change.
        batches: Inputs of both. All tensors of one batch are held at once, so small batches need little memory.
        runtime: Runs both.
        limit_db: SQNR below which a tensor counts as deviating.
        ordered: Whether rows keep their places; without, tensors behind a TopK, ArgMax or NonMaxSuppression are left
            out, whose rows are about other things where rounding changes a choice.
        prepare: What the candidate goes through before it runs, such as having its 16-bit rounding written out.
        progress: Told of every batch.

    Raises:
        DataError: There are no batches, or both graphs have no tensor in common.
    """
    graphs = load_onnx(reference.path), prepare(load_onnx(candidate.path))
    behind: frozenset[str] = frozenset() if ordered else behind_choices(graphs[1].graph)
    shared = tuple(name for name in shared_tensors(*graphs) if name not in behind)
    if not shared:
        raise DataError(
            "The two graphs have no tensor in common.",
            found=f"{reference.path.name} and {candidate.path.name}",
            expected="a graph and one made from it",
        )
    differences = {name: Difference(keep_worst=0, detailed=False) for name in shared}
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    with tempfile.TemporaryDirectory(prefix="linglos-layers-") as folder:
        probes = [with_outputs(graph, shared, Path(folder) / f"{number}.onnx") for number, graph in enumerate(graphs)]
        with (
            runtime.open(probes[0]) as wanted,
            runtime.open(probes[1]) as found,
            progress.stage("Comparing layers") as advance,
        ):
            for batch in batches:
                expected, actual = wanted.run(batch), found.run(batch)
                for name, difference in differences.items():
                    if expected[name].shape != actual[name].shape:
                        shapes[name] = expected[name].shape, actual[name].shape
                    elif expected[name].ndim:
                        difference.update(expected[name], actual[name])
                advance()
    makers = producers(graphs[1].graph)
    layers = tuple(
        LayerDifference(tensor=name, node=makers[name].name, op_type=makers[name].op_type, metrics=metrics)
        for name, difference in differences.items()
        if name not in shapes and (metrics := difference.metrics()).samples
    )
    misshapen = tuple(Misshapen(name, makers[name].name, *shapes[name]) for name in shared if name in shapes)
    if not layers and not misshapen:
        raise DataError("There is nothing to compare.", found="no batches", expected="at least one image")
    beyond = {layer.tensor for layer in layers if layer.metrics.sqnr_db < limit_db} | shapes.keys()
    return LayerReport(
        reference=reference.path.name,
        candidate=candidate.path.name,
        samples=layers[-1].metrics.samples if layers else 0,
        layers=layers,
        first_beyond=next((name for name in shared if name in beyond), None),
        limit_db=limit_db,
        misshapen=misshapen,
    )


def check_layers(report: LayerReport, precision: Precision, reached: Mapping[str, float]) -> tuple[Finding, ...]:
    """Judge inner tensors: none may be lost, none may fall below what it reached when the bundle was made.

    Args:
        report: The comparison with the float32 graph.
        precision: Of the candidate.
        reached: SQNR of each tensor when the bundle was made, on the same images; empty if unknown.
    """
    kind = Precision.INT8 if precision.is_int8 else precision
    if kind not in FLOOR_DB:
        return ()
    if report.misshapen:
        first = report.misshapen[0]
        return (
            Finding(
                "inner tensors have the shapes of the parent's",
                False,
                f"{len(report.misshapen)} of other shapes, first '{first.tensor}' of {list(first.found)}",
                str(list(first.expected)),
                node=first.node,
            ),
        )
    judged = [layer for layer in report.layers if layer.metrics.nonfinite_reference < layer.metrics.values]
    findings = [_worst_of(judged, lambda _: FLOOR_DB[kind], "no inner tensor is lost", "")]
    known = [layer for layer in judged if layer.tensor in reached]
    if known:
        findings.append(
            _worst_of(
                known,
                lambda layer: reached[layer.tensor] - LAYER_SLACK_DB[kind],
                "inner tensors reach what they reached",
                " when the bundle was made, less the slack",
            )
        )
    return tuple(findings)


def _worst_of(
    layers: Sequence[LayerDifference], limit: Callable[[LayerDifference], float], name: str, why: str
) -> Finding:
    below = [layer for layer in layers if layer.metrics.sqnr_db < limit(layer) or layer.metrics.mismatched_nonfinite]
    if not below:
        lowest = min(layers, key=lambda layer: layer.metrics.sqnr_db - limit(layer))
        found = f"{len(layers)} tensors, the closest to its limit '{lowest.tensor}' at {lowest.metrics.sqnr_db:.1f} dB"
        return Finding(name, True, found, f"at least {limit(lowest):.1f} dB{why}")
    first = below[0]
    lost = f", {first.metrics.mismatched_nonfinite} NaN or infinite" if first.metrics.mismatched_nonfinite else ""
    return Finding(
        name,
        False,
        f"{len(below)} of {len(layers)} tensors, first '{first.tensor}' at {first.metrics.sqnr_db:.1f} dB{lost}",
        f"at least {limit(first):.1f} dB{why}",
        node=first.node,
    )


def shared_tensors(reference: onnx.ModelProto, candidate: onnx.ModelProto) -> tuple[str, ...]:
    """Return the floating-point tensors that both graphs make under one name, in the candidate's order."""
    types = value_types(reference)
    made = {name for node in reference.graph.node for name in node.output}
    theirs = value_types(candidate)
    return tuple(
        name
        for node in candidate.graph.node
        for name in node.output
        if name in made and types.get(name) in _FLOATS and theirs.get(name) in _FLOATS
    )


def behind_choices(graph: onnx.GraphProto) -> frozenset[str]:
    """Return the tensors that depend on which of several numbers is the largest, as far as nodes say so."""
    behind: set[str] = set()
    for node in graph.node:  # ONNX lists nodes in an order in which inputs come first
        if node.op_type in CHOICES or behind.intersection(node.input):
            behind.update(node.output)
    return frozenset(behind)


def with_outputs(model: onnx.ModelProto, tensors: Sequence[str], path: Path) -> OnnxArtifact:
    """Write ``model`` with ``tensors`` as its outputs, and open the file."""
    types, shapes = value_types(model), value_shapes(model)
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, types[name], shapes.get(name)) for name in tensors
    )
    path.write_bytes(probe.SerializeToString())
    outputs = tuple(
        TensorSpec(
            name,
            onnx.helper.tensor_dtype_to_np_dtype(types[name]).name,
            tuple(f"{name}_{axis}" if dim is None else dim for axis, dim in enumerate(shapes.get(name, ()))),
        )
        for name in tensors
    )
    return OnnxArtifact(path, ModelSignature(onnx_signature(model).inputs, outputs), sha256_file(path))
