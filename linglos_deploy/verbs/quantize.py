"""Make a plan from a calibration table and carry it out: what ``quantize`` does."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from linglos_deploy.artifacts import OnnxArtifact, load_onnx, open_onnx
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.bundle import is_bundle
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.codec import to_json
from linglos_deploy.errors import UsageError
from linglos_deploy.exporters.conversion import convert_opset
from linglos_deploy.files import atomic_file, check_new
from linglos_deploy.graph.axes import input_axes
from linglos_deploy.graph.feeds import ONE, Sizes
from linglos_deploy.graph.inputs import open_inputs, synthetic_inputs
from linglos_deploy.graph.metadata import stated_preprocessing
from linglos_deploy.graph.opset import opset_of
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.quantization.apply import apply_plan
from linglos_deploy.quantization.patterns import check_patterns
from linglos_deploy.quantization.placement import DEFAULT, find_placement
from linglos_deploy.quantization.plan import QuantPlan, plan_quantization
from linglos_deploy.quantization.scheme import QuantScheme
from linglos_deploy.verbs.graphs import float_graph

PER_CHANNEL_OPSET = 13
"""The first opset whose QuantizeLinear and DequantizeLinear take a scale for each channel."""

CONVERTED_OPSET = 17
"""What older graphs become: the last opset whose reductions still look as they do in them."""

CHECKED_INPUTS = 2
"""Inputs on which a converted graph must answer as before."""


@dataclass(frozen=True, slots=True)
class QuantizeRequest:
    """What ``quantize`` works on.

    Attributes:
        model: The float32 graph, or a bundle, which has one.
        table: What calibration saw; needed to make a plan.
        plan: A plan to carry out instead.
        scheme: How a plan is made.
        placement: What the graph is made for, by the name of a placement.
        out: Where the INT8 graph goes.
        save_plan: Where the plan goes; beside ``out`` if ``None``.
        dry_run: Whether to stop after the plan.
        data: Inputs that a conversion to a later opset is checked on; made-up ones if ``None``.
        sizes: Of made-up input, where the graph leaves them open.
        replace: Whether files that lie there are replaced.
    """

    model: Path
    table: Path | None
    plan: Path | None
    scheme: QuantScheme
    out: Path
    placement: str = DEFAULT
    save_plan: Path | None = None
    dry_run: bool = False
    data: Path | None = None
    sizes: Sizes = ONE
    replace: bool = False

    def __post_init__(self) -> None:
        find_placement(self.placement)
        if (self.table is None) == (self.plan is None):
            raise UsageError(
                "quantize needs a table or a plan.",
                found="neither" if self.table is None else "both",
                expected="one of --table and --plan",
                next_step=f"linglos-deploy calibrate {self.model} --data images/ makes a table"
                if self.table is None
                else f"linglos-deploy quantize {self.model} --plan {self.plan}",
            )
        if self.plan is not None and self.scheme != QuantScheme():
            raise UsageError(
                "A plan that is given holds all decisions.",
                found=f"--plan {self.plan} and options that decide how a plan is made",
                expected="the plan alone, or --table and those options",
                next_step=f"linglos-deploy quantize {self.model} --plan {self.plan}",
            )
        if self.plan is not None and (self.dry_run or self.save_plan is not None):
            raise UsageError(
                "A plan that is given is only carried out.",
                found="--plan together with " + ("--dry-run" if self.dry_run else "--save-plan"),
                expected="--plan alone, or --table to make a plan",
                next_step=f"linglos-deploy inspect {self.plan} shows it",
            )


@dataclass(frozen=True, slots=True)
class QuantizeResult:
    """What ``quantize`` made.

    Attributes:
        graph: The INT8 graph; ``None`` after a dry run.
        plan_file: Where the plan lies; ``None`` if it was given.
        plan: The decisions.
    """

    graph: OnnxArtifact | None
    plan_file: Path | None
    plan: QuantPlan


def quantize_graph(request: QuantizeRequest, *, progress: Progress = SILENT) -> QuantizeResult:
    """Make a plan from a table, or take a given one, and carry it out.

    Raises:
        UsageError: The graph is quantized already, or a pattern of the scheme names no layer.
        OutputError: A file lies there that is not to be replaced.
        ArtifactError: A file is missing or damaged.
        CalibrationError: The table belongs to another graph.
        QuantizationError: The plan cannot be made or does not fit the graph.
    """
    graph_file = float_graph(request.model, verb="quantize")
    _check_places(request, graph_file)
    if request.plan is None and not _plan_path(request).is_file():
        check_new(_plan_path(request), replace=request.replace)
    if not request.dry_run:
        check_new(request.out, replace=request.replace)
    with _quantizable(open_onnx(graph_file), request, progress) as model:
        plan = _make_plan(model, request)
        if request.plan is None and not _lies_there(plan, request):
            check_new(_plan_path(request), replace=request.replace)
        if request.dry_run:
            return QuantizeResult(None, _save_plan(plan, request), plan)
        with atomic_file(request.out) as partial:
            with progress.stage("Quantizing"):
                graph = apply_plan(model, plan, out=partial, placement=find_placement(request.placement))
            plan_file = _save_plan(plan, request)
        for warning in graph.warnings:
            progress.warn(warning)
        return QuantizeResult(replace(graph, path=request.out), plan_file, plan)


def _check_places(request: QuantizeRequest, graph: Path) -> None:
    """Check that nothing is written over what is read, or over what is written, ``replace`` or not."""
    read = {graph.resolve(): "the float32 graph"}
    read |= {path.resolve(): what for path, what in ((request.table, "the table"), (request.plan, "the plan")) if path}
    taken = dict(read)
    for number, path in enumerate(_outputs(request)):
        if path.resolve() in taken:
            raise UsageError(
                f"'{path}' cannot be both {taken[path.resolve()]} and what quantize writes.",
                found=f"'{path}' twice",
                expected="another file for each",
                next_step=f"--output {path.with_name('other.int8.onnx')}"
                if number == 0
                else "--save-plan other.plan.json",
            )
        taken[path.resolve()] = "the INT8 graph"
    for path in _outputs(request):
        if path.exists() and is_bundle(path.parent):
            raise UsageError(
                f"'{path.parent}' is a bundle, and its manifest vouches for the files in it.",
                found=f"'{path}', which is there, as a place to write to",
                expected="a new file, or a place outside of the bundle",
                next_step=f"--output {path.parent.with_name(path.name)}",
            )


@contextmanager
def _quantizable(model: OnnxArtifact, request: QuantizeRequest, progress: Progress) -> Iterator[OnnxArtifact]:
    """Yield the graph in an opset that has INT8 weights with a scale per channel; checked to answer the same.

    It stands for the graph that was given, under the same digest: its tensors have the same names, so that table and
    plan of the one are those of the other.
    """
    opset = opset_of(load_onnx(model.path))
    if opset >= PER_CHANNEL_OPSET:
        if request.data is not None or request.sizes != ONE:
            raise UsageError(
                "quantize needs input only to check a conversion of the opset; nothing is converted here.",
                found=f"{'--data' if request.data is not None else '--shape'}, and '{model.path}' of opset {opset}",
                expected=f"a graph older than opset {PER_CHANNEL_OPSET}, or no such option",
                next_step="leave the option out; ranges come from the table, and 'parity' compares answers",
            )
        yield model
        return
    spec = stated_preprocessing(model.path)
    if spec is None and request.table is not None:
        spec = CalibrationTable.load(request.table).preprocess
    inputs = (
        open_inputs(request.data, model, spec, progress=progress).limit(CHECKED_INPUTS)
        if request.data is not None
        else synthetic_inputs(model, spec, count=CHECKED_INPUTS, seed=0, sizes=request.sizes)
    )
    axes = input_axes(model.signature)
    batches = inputs.batches(axes.batch or 1, signature=model.signature)
    with tempfile.TemporaryDirectory(prefix="linglos-quantize-") as folder:
        converted = convert_opset(
            model,
            CONVERTED_OPSET,
            map(axes.filled, batches),
            runtime=OnnxRuntime(optimize=False),
            out=Path(folder) / model.path.name,
            progress=progress,
        )
        yield replace(converted, digest=model.digest)


def _make_plan(model: OnnxArtifact, request: QuantizeRequest) -> QuantPlan:
    if request.table is None:
        assert request.plan is not None
        return QuantPlan.load(request.plan)
    check_patterns(request.scheme, model)
    return plan_quantization(model, CalibrationTable.load(request.table), request.scheme)


def _outputs(request: QuantizeRequest) -> list[Path]:
    graphs = [] if request.dry_run else [request.out]
    return graphs if request.plan is not None else [*graphs, _plan_path(request)]


def _plan_path(request: QuantizeRequest) -> Path:
    return request.save_plan or request.out.with_suffix(".plan.json")


def _save_plan(plan: QuantPlan, request: QuantizeRequest) -> Path | None:
    """Keep a plan that was made here; one that was given lies where it is."""
    if request.plan is not None:
        return None
    path = _plan_path(request)
    plan.save(path)
    return path


def _lies_there(plan: QuantPlan, request: QuantizeRequest) -> bool:
    """Whether the very same plan lies where it shall go: a dry run left it."""
    path = _plan_path(request)
    return path.is_file() and path.read_text(encoding="utf-8", errors="replace") == to_json(plan)
