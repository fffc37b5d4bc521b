"""Where does an artifact first go wrong? Its clean twin is made again, and both are compared tensor by tensor."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from linglos_deploy.artifacts import EngineArtifact, OnnxArtifact, TorchModel, load_onnx
from linglos_deploy.backends import registry
from linglos_deploy.backends.images_first import in_layout
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.choices import Precision
from linglos_deploy.codec import from_json
from linglos_deploy.errors import UsageError
from linglos_deploy.exporters.balancing import STAGE, balance_again
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.precision import convert_precision
from linglos_deploy.exporters.rounding import with_explicit_rounding
from linglos_deploy.parity.layerwise import FLOOR_DB
from linglos_deploy.parity.locate import LIMIT_DB, locate, module_of
from linglos_deploy.parity.positions import first_images
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.quantization.apply import apply_plan
from linglos_deploy.reports.parity import Location
from linglos_deploy.signature import Batch, ModelSignature
from linglos_deploy.verbs.recompiled import Recompiled
from linglos_deploy.verbs.verdicts import InputSet, Subject, prove_derived

PER_SET = 2
"""Images of each set that a graph is looked into with; two show a leak between them."""

ROUNDED_LIMIT_DB = {Precision.FP16: 45.0, Precision.BF16: 27.0, Precision.INT8: 15.0}
"""SQNR to the float32 graph below which a tensor is out of the ordinary, where no clean twin can be made."""


OTHER_KERNELS_DB = 80.0
"""SQNR below which a float32 tensor of another runtime is out of the ordinary: its kernels sum in another order."""


def locate_in(
    subject: Subject,
    batch: Batch,
    *,
    ranges: Mapping[str, float] | None = None,
    threads: int = 0,
    progress: Progress = SILENT,
) -> Location:
    """Find the first tensor of a graph that is not what it should be.

    A derived graph is compared with its clean twin, made again from its parent and its plan; any other one with its
    counterpart.

    Args:
        subject: The graph, with a parent or a counterpart.
        batch: A few images, along the first axis of each array.
        ranges: Largest magnitudes of tensors, which 16-bit graphs are made with.
        threads: Threads of ONNX Runtime.
        progress: Told of every look.

    Raises:
        UsageError: There is nothing to compare it with.
    """
    graph, like = subject.graph, subject.like
    if not isinstance(graph, OnnxArtifact) or like is None:
        raise UsageError(
            f"Nothing tells what the tensors of '{subject.name}' should be.",
            found="no float32 graph that it was made from",
            expected="a bundle, --reference with a graph, or --checkpoint with the PyTorch model of a bundle",
            next_step="--reference model.onnx",
        )
    kind = Precision.INT8 if subject.precision.is_int8 else subject.precision
    reference, name, limit = load_onnx(like.path), like.path.name, LIMIT_DB
    if kind in FLOOR_DB:
        twin = clean_twin(subject, ranges or {})
        if twin is None:
            limit = ROUNDED_LIMIT_DB[kind]
        else:
            reference, name = twin, f"{like.path.name}, made {subject.precision} again"
    prepare = with_explicit_rounding if subject.precision.floating is not Precision.FP32 else _as_it_is
    found = locate(
        prepare(reference),
        prepare(load_onnx(graph.path)),
        in_layout(batch, graph.signature)[0],
        runtime=OnnxRuntime(threads=threads, optimize=False),
        names=(name, subject.name),
        parent=load_onnx(like.path),
        limit_db=limit,
        progress=progress,
    )
    return found if found.tensor is not None else _told_by_structure(found, subject)


def locate_in_engine(
    subject: Subject, source: OnnxArtifact, batch: Batch, *, threads: int = 0, progress: Progress = SILENT
) -> Location:
    """Find the first tensor that an engine's compiler gets wrong.

    An engine shows its outputs only. So the graph that it was made of is compiled again, with the same settings and the
    tensors of a cut as outputs, and compared with the same graph on ONNX Runtime, node by node as it stands.

    Args:
        subject: The engine.
        source: The graph that it was made of.
        batch: A few images, along the first axis of each array.
        threads: Threads of ONNX Runtime.
        progress: Told of every look.

    Raises:
        BuildError: The compiler refuses the graph with inner tensors as outputs.
    """
    assert isinstance(subject.graph, EngineArtifact), subject.name
    runtime = registry.runtime(subject.backend, **subject.access.options_for(subject.backend))
    kind = Precision.INT8 if subject.precision.is_int8 else subject.precision
    graph = load_onnx(source.path)
    rounded = subject.precision.floating is not Precision.FP32
    return locate(
        with_explicit_rounding(graph) if rounded else graph,
        graph,
        in_layout(batch, source.signature)[0],
        runtime=OnnxRuntime(threads=threads, optimize=False),
        candidate_runtime=Recompiled(subject.graph, runtime, subject.access),
        names=(f"{source.path.name} on ONNX Runtime", f"{source.path.name}, compiled again for {subject.backend}"),
        limit_db=ROUNDED_LIMIT_DB.get(kind, OTHER_KERNELS_DB),
        progress=progress,
    )


def _told_by_structure(found: Location, subject: Subject) -> Location:
    """Name the first difference of structure where no tensor tells: a scale and its integers may both be negated."""
    if subject.parent is None:
        return found
    graphs = load_onnx(subject.parent.path), load_onnx(subject.graph.path)
    proof = prove_derived(subject, *graphs)
    if proof.passed:
        return found
    first = proof.differences[0]
    return replace(found, node=first.node, layer=first.layer, module=module_of(first.layer))


def locating_images(sets: Sequence[InputSet], signature: ModelSignature) -> Batch:
    """Return a few images of every set of one size: what grey ones hide, such as swapped colours, noise shows."""
    found = [first_images(images.batches(signature), PER_SET) for images in sets]
    sizes = [{name: array.shape[1:] for name, array in batch.items()} for batch in found]
    found = [batch for batch, size in zip(found, sizes, strict=True) if size == sizes[0]]
    return {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}


def clean_twin(subject: Subject, ranges: Mapping[str, float]) -> onnx.ModelProto | None:
    """Make a derived graph again from its parent; ``None`` if its parent or its plan is not at hand."""
    if subject.parent is None or (subject.precision.is_int8 and subject.plan is None):
        return None
    with tempfile.TemporaryDirectory(prefix="linglos-twin-") as folder:
        made = subject.parent
        if subject.plan is not None:
            made = apply_plan(made, subject.plan, out=Path(folder) / "int8.onnx", placement=subject.placement)
        if subject.precision.floating is not Precision.FP32:
            out = Path(folder) / "narrow.onnx"
            made = convert_precision(made, subject.precision, out=out, ranges=ranges)
        return load_onnx(made.path)


def export_again(model: TorchModel, graph: OnnxArtifact, out: Path) -> OnnxArtifact:
    """Export a PyTorch model as ``graph`` was exported, to have its tensors under the same names.

    Raises:
        UsageError: The graph does not say how it was exported.
    """
    step = next((step for step in graph.lineage if step.stage == "export"), None)
    if step is None:
        raise UsageError(
            f"'{graph.path.name}' does not say how it was exported.",
            found=", ".join(step.stage for step in graph.lineage) or "no lineage",
            expected="a bundle's graph",
            next_step="name a clean graph with --reference",
        )
    config = {name: value for name, value in step.config.items() if name != "attention"}
    from linglos_deploy.exporters.export import export_onnx  # needs PyTorch, which a target has not

    made = export_onnx(model, from_json(ExportConfig, json.dumps(config), source=str(graph.path)), out=out)
    moved = next((step for step in graph.lineage if step.stage == STAGE), None)
    return made if moved is None else balance_again(made, moved, out=out)


def _as_it_is(model: onnx.ModelProto) -> onnx.ModelProto:
    return model
