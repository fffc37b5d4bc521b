"""Where does a candidate graph start to deviate? Tensors of the same name in two graphs, in graph order."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import onnx

from linglos_deploy.artifacts import OnnxArtifact, load_onnx, onnx_signature
from linglos_deploy.backends.base import Runtime
from linglos_deploy.errors import DataError
from linglos_deploy.files import sha256_file
from linglos_deploy.graph.topology import producers, value_shapes, value_types
from linglos_deploy.parity.metrics import Difference
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.reports.parity import LayerDifference, LayerReport
from linglos_deploy.signature import Batch, ModelSignature, TensorSpec

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)


def compare_layers(
    reference: OnnxArtifact,
    candidate: OnnxArtifact,
    batches: Iterable[Batch],
    *,
    runtime: Runtime,
    limit_db: float = 20.0,
    progress: Progress = SILENT,
) -> LayerReport:
    """Run both graphs and compare every floating-point tensor that both make, each fed by its own graph's errors.

    Args:
        reference: The graph to trust.
        candidate: The graph to look into; it must have kept the names of the tensors it did not change.
        batches: Inputs of both. All tensors of one batch are held at once, so small batches need little memory.
        runtime: Runs both.
        limit_db: SQNR below which a tensor counts as deviating.
        progress: Told of every batch.

    Raises:
        DataError: There are no batches, or both graphs have no tensor in common.
    """
    graphs = load_onnx(reference.path), load_onnx(candidate.path)
    shared = _shared_tensors(*graphs)
    if not shared:
        raise DataError(
            "The two graphs have no tensor in common.",
            found=f"{reference.path.name} and {candidate.path.name}",
            expected="a graph and one made from it",
        )
    differences = {name: Difference() for name in shared}
    with tempfile.TemporaryDirectory(prefix="linglos-layers-") as folder:
        probes = [_with_outputs(graph, shared, Path(folder) / f"{number}.onnx") for number, graph in enumerate(graphs)]
        with (
            runtime.open(probes[0]) as wanted,
            runtime.open(probes[1]) as found,
            progress.stage("Comparing layers") as advance,
        ):
            for batch in batches:
                expected, actual = wanted.run(batch), found.run(batch)
                for name, difference in differences.items():
                    if expected[name].ndim:
                        difference.update(expected[name], actual[name])
                advance()
    makers = producers(graphs[1].graph)
    layers = tuple(
        LayerDifference(tensor=name, node=makers[name].name, op_type=makers[name].op_type, metrics=difference.metrics())
        for name, difference in differences.items()
        if difference.metrics().samples
    )
    if not layers:
        raise DataError("There is nothing to compare.", found="no batches", expected="at least one image")
    return LayerReport(
        reference=reference.path.name,
        candidate=candidate.path.name,
        samples=layers[-1].metrics.samples,
        layers=layers,
        first_beyond=next((layer.tensor for layer in layers if layer.metrics.sqnr_db < limit_db), None),
        limit_db=limit_db,
    )


def _shared_tensors(reference: onnx.ModelProto, candidate: onnx.ModelProto) -> tuple[str, ...]:
    types = value_types(reference)
    made = {name for node in reference.graph.node for name in node.output}
    theirs = value_types(candidate)
    return tuple(
        name
        for node in candidate.graph.node
        for name in node.output
        if name in made and types.get(name) in _FLOATS and theirs.get(name) in _FLOATS
    )


def _with_outputs(model: onnx.ModelProto, tensors: Sequence[str], path: Path) -> OnnxArtifact:
    """Write ``model`` with ``tensors`` as its outputs."""
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
