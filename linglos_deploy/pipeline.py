"""Checkpoint to bundle; the only module that knows every stage.

checkpoint -> torch model -> float ONNX -> calibration table -> quantization plan -> typed ONNX -> engine -> bundle,
with a parity check behind every arrow and a latency profile at the end.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from linglos_deploy.artifacts import (
    BATCH_AXIS,
    EngineArtifact,
    OnnxArtifact,
    TorchModel,
    load_onnx,
    tool_versions,
)
from linglos_deploy.backends import registry
from linglos_deploy.backends.base import Runtime
from linglos_deploy.backends.cpu import Int8Mode
from linglos_deploy.backends.images_first import ImagesFirst
from linglos_deploy.backends.onnxruntime import EXACT_SESSION_OPTIONS, OnnxRuntime
from linglos_deploy.backends.pytorch import PyTorch
from linglos_deploy.bundle import GOLDEN, SCHEMA, EngineEntry, Golden, GraphEntry, InputKind, Manifest, seal_bundle
from linglos_deploy.calibration.calibrate import CalibrationConfig, calibrate
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.calibration.targets import quantizable_activations, rounded_tensors
from linglos_deploy.choices import Precision, Weights
from linglos_deploy.codec import write_json
from linglos_deploy.engines.compiler import Compiler
from linglos_deploy.engines.compiling import AUTO, NONE, choose_compilers, compile_graph, not_built
from linglos_deploy.engines.dla import DLA, refuse_to_build
from linglos_deploy.engines.options import EngineOptions
from linglos_deploy.engines.sizes import SizeProfile, check_covers, check_fit, covers
from linglos_deploy.errors import CalibrationError, LinglosError, UsageError
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.precision import KINDS, convert_precision, tensors_at_risk
from linglos_deploy.files import atomic_directory, check_free
from linglos_deploy.golden_tensors import golden_images, preprocess_golden, read_golden, real_images, write_golden
from linglos_deploy.images.checks import check_data, warn_of_findings
from linglos_deploy.images.dataset import SYNTHETIC_IMAGES, ImageDataset, open_dataset, synthetic_dataset
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.models.loading import HeldModel, ModelSource, load_model
from linglos_deploy.parity.accuracy import count_correct
from linglos_deploy.parity.decisions import check_decisions
from linglos_deploy.parity.positions import first_images
from linglos_deploy.parity.reached import Reached
from linglos_deploy.profiling.advice import what_next, what_to_ship
from linglos_deploy.profiling.measure import measure
from linglos_deploy.profiling.plan import Candidate, MeasurementPlan
from linglos_deploy.profiling.statistics import FEWEST_PROCESSES
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.quantization.apply import apply_plan
from linglos_deploy.quantization.patterns import check_patterns
from linglos_deploy.quantization.placement import (
    DEFAULT,
    check_placements,
    default_placements,
    find_placement,
    placement_names,
    placement_of,
)
from linglos_deploy.quantization.plan import QuantPlan, plan_quantization
from linglos_deploy.quantization.scheme import QuantScheme
from linglos_deploy.reports.export import Accuracy, AccuracyVerdict, EngineOutcome, ExportReport
from linglos_deploy.reports.html import write_html
from linglos_deploy.reports.profile import ProfileReport
from linglos_deploy.signature import Batch, ModelSignature
from linglos_deploy.tasks.classes import ClassIndices, class_indices, guessing
from linglos_deploy.tasks.registry import CLASSIFY, FEATURES
from linglos_deploy.verbs.balancing import Balancing, balance
from linglos_deploy.verbs.check_parity import (
    EXTREME,
    NOISE_IMAGES,
    PLAN,
    TABLE,
    golden_sets,
    made_up_golden,
    with_findings,
)
from linglos_deploy.verbs.referee import pytorch_noise
from linglos_deploy.verbs.verdicts import (
    BATCH,
    InputSet,
    Subject,
    Verdict,
    check_subjects,
    not_checked,
    open_subject,
    recorded,
    why_not_here,
)
from linglos_deploy.verbs.worth import Target, judge_targets

GOLDEN_REAL_IMAGES = 8
LATENCY_PROCESSES = FEWEST_PROCESSES
"""Processes of each candidate in the last table of an export: as few as give an interval."""

SELF_TEST_TOLERANCE = {
    Precision.FP32: 1e-4,
    Precision.FP16: 2e-2,
    Precision.BF16: 1e-1,
    Precision.INT8: 5e-2,
    Precision.INT8_FP16: 5e-2,
}
"""Largest difference that a self-test accepts on another machine, as a share of the output's largest value. The sums
are ordered differently there, and an INT8 value that lay between two steps may take the other one."""


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """Everything that decides a bundle.

    Attributes:
        source: Which model.
        folder: The bundle becomes a directory in this one.
        name: Name of that directory; the model's name if ``None``.
        replace: Whether a bundle that stands there is replaced.
        graph: How the model becomes a graph.
        precision: Element types of the deployed graph.
        data: Calibration images: a folder, ``.npz`` or ``.npy``; synthetic images if ``None``.
        calibration_images: Largest number of them to use; all if ``None``.
        evaluation: Labelled images for accuracy and parity; the calibration images serve for parity if ``None``.
        max_accuracy_drop: Largest accepted loss of top-1 against PyTorch, in percentage points.
        scheme: How INT8 ranges are chosen.
        target_runtimes: What the INT8 graphs are made for, by placement; the usual ones if empty.
        engine: Which engines are built: a compiler's name, ``auto`` or ``none``.
        engine_options: How they are built.
        parity_images: Largest number of images of the parity check.
        measure_latency: Whether the graphs are profiled.
        threads: Threads of ONNX Runtime, 0 for its own choice.
        seed: Of synthetic images.
    """

    source: ModelSource
    folder: Path
    name: str | None = None
    replace: bool = False
    graph: ExportConfig = field(default_factory=ExportConfig)
    precision: Precision = Precision.FP32
    data: Path | None = None
    calibration_images: int | None = None
    evaluation: Path | None = None
    max_accuracy_drop: float | None = None
    scheme: QuantScheme = field(default_factory=QuantScheme)
    target_runtimes: tuple[str, ...] = ()
    engine: str = AUTO
    engine_options: EngineOptions = field(default_factory=EngineOptions)
    parity_images: int = 64
    measure_latency: bool = True
    threads: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name is not None and (self.name in {"", ".", ".."} or "/" in self.name):
            raise UsageError(
                "A bundle's name is one word of a path.",
                found=self.name or "nothing",
                expected="a name without '/'",
                next_step=f"--output {Path(self.name).parent} --name {Path(self.name).name}" if self.name else None,
            )
        if self.max_accuracy_drop is not None and (self.evaluation is None or self.source.task not in (None, CLASSIFY)):
            raise UsageError(
                "Accuracy is measured on labelled images, of a classifier.",
                found="--max-accuracy-drop without --eval" if self.evaluation is None else f"--task {self.source.task}",
                expected="--eval with labelled images, one folder a class",
                next_step=f"--max-accuracy-drop {self.max_accuracy_drop:g} --eval val/, or leave the option out",
            )
        if not self.precision.is_int8 and (self.scheme != QuantScheme() or self.graph.without):
            raise UsageError(
                "Options for INT8 change nothing here.",
                found=f"--precision {self.precision} with --method, --percentile, --weight-bits, --nodes-to-exclude, "
                "--narrow or --without",
                expected="--precision int8 or int8+fp16",
                next_step="add --int8, or leave those options out",
            )
        check_placements(self.target_runtimes, self.precision)
        if self.engine_options.target == DLA:
            raise refuse_to_build()
        if self.engine == NONE and self.engine_options != EngineOptions():
            raise UsageError(
                "Options for engines change nothing where no engine is built.",
                found="--engine none with an option for engines",
                expected="an engine to build, or no such option",
                next_step="--engine auto, or leave the options for engines out",
            )


def export_bundle(request: ExportRequest, *, progress: Progress = SILENT) -> ExportReport:
    """Make a bundle.

    The bundle appears whole or not at all. One that failed a check is written too: it says so in its manifest, and the
    report's ``passed`` is false.

    Raises:
        LinglosError: The request makes no sense, something is missing, or a stage failed.
    """
    compilers, passed_over = choose_compilers(request.engine, request.engine_options)
    check_engines_have_graphs(request, compilers)
    model = load_model(request.source, progress=progress)
    check_task(request, model)
    check_sizes(request, model)
    check_outputs(model)
    out = request.folder / (request.name or model.name)
    check_free(out, replace=request.replace)
    images = open_images(request, model, progress)
    for warning in images.warnings:
        progress.warn(warning)
    with atomic_directory(out, replace=request.replace) as folder:
        work = Work(request, model, images, folder, progress)
        graphs = make_graphs(work)
        golden = make_golden(work, graphs)
        engines, outcomes = compile_engines(work, graphs, compilers)
        verdicts = check_parity(work, graphs, engines)
        parity = tuple(verdict.report for verdict in verdicts)
        accuracy = measure_accuracy(work, graphs)
        latency = measure_latency(work, graphs) if request.measure_latency else None
        sizes = {graph.path.name: graph.path.stat().st_size for graph in graphs}
        targets = judge_targets(
            targets_of(graphs), reference=graphs[0].path.name, sizes=sizes, profile=latency, accuracy=accuracy
        )
        slower = (verdict.sentence for verdict in targets if verdict.slower)
        report = ExportReport(
            name=out.name,
            bundle=str(out),
            parameters=sum(parameter.numel() for parameter in model.module.parameters()),
            precision=request.precision,
            graphs=sizes,
            warnings=tuple(dict.fromkeys((*all_warnings(work, graphs, accuracy), *slower))),
            skipped=images.skipped,
            accuracy=accuracy,
            parity=parity,
            engines=(*outcomes, *(not_built(probe, graph_for(probe.name, graphs).path.name) for probe in passed_over)),
            profile=latency,
            advice=what_to_ship(latency, parity, accuracy) if latency is not None else "",
            next_commands=what_next(str(out), latency) if latency is not None else (),
            passed=all(check.passed for check in parity) and (accuracy is None or accuracy.passed),
            targets=targets,
        )
        write_reports(report, folder / "reports")
        reached = tuple(entry for verdict in verdicts for entry in verdict.reached)
        seal_bundle(folder, make_manifest(work, report, graphs, engines, golden, reached))
    return report


def check_task(request: ExportRequest, model: TorchModel) -> None:
    """Check that what is asked for suits what the model is for, before any work is spent.

    Raises:
        UsageError: Accuracy was asked for, and ``export`` measures that of classifiers only.
    """
    task = task_of(model)
    if task in (None, CLASSIFY):
        return
    asked = "--max-accuracy-drop" if request.max_accuracy_drop is not None else ""
    if request.evaluation is not None and task != FEATURES:
        asked = "--eval"
    if asked:
        raise UsageError(
            "Accuracy is measured on labelled images, of a classifier.",
            found=f"{asked}, and the model is for the task '{task}'",
            expected="a classifier; other tasks are judged on the finished bundle",
            next_step="leave it out, then: linglos-deploy eval BUNDLE --data …",
        )


def check_sizes(request: ExportRequest, model: TorchModel) -> None:
    """Check the sizes that engines shall serve before any work is spent.

    Raises:
        UsageError: The graph will not take them, or the bundle's own size is not among them.
    """
    profile = request.engine_options.size_profile
    if profile is not None:
        check_fit(profile, dynamic=request.graph.dynamic, divisor=model.size_divisor)
    asked = [profile] if profile is not None else _sizes_of_shapes(request)
    if asked and model.preprocess is not None and not any(covers(it, model.preprocess.input_size) for it in asked):
        check_covers(asked[0], model.preprocess.input_size)


def _sizes_of_shapes(request: ExportRequest) -> list[SizeProfile]:
    """Return the heights and widths among the shapes that were given axis by axis."""
    first = 1 if request.graph.embed_preprocessing else 2  # pixels come channels last
    shapes = [it.shape for it in request.engine_options.shapes if len(it.shape.min) == 4]
    return [
        (
            (shape.min[first], shape.min[first + 1]),
            (shape.opt[first], shape.opt[first + 1]),
            (shape.max[first], shape.max[first + 1]),
        )
        for shape in shapes
    ]


def check_outputs(model: TorchModel) -> None:
    """Check that every output holds an answer for each image, before any work is spent.

    Raises:
        UsageError: One does not: whoever opens a bundle, C++ too, reads images along the first axis.
    """
    preprocessing_of(model)
    count = 2
    try:
        with PyTorch().open(model) as runner:
            images = {name: np.zeros(shape, np.float32) for name, shape in model.input_shapes(batch=count).items()}
            answers = {name: np.asarray(value) for name, value in runner.run(images).items()}
    except LinglosError:
        return  # a module that takes one image only: exporting says what is wrong with it, or nothing is
    first = {spec.name: spec.dims[:1] for spec in runner.signature.outputs}  # as batches of several sizes showed
    odd = [
        f"'{name}' of shape {list(answer.shape)}" for name, answer in answers.items() if first[name] != (BATCH_AXIS,)
    ]
    if odd:
        raise UsageError(
            f"'{model.name}' answers with something that is not one value or map for each image.",
            found=f"{', '.join(odd)} for {count} images",
            expected="images along the first axis of every output",
            next_step="leave it out of what the module returns, or make the graph alone, as docs/models.md shows",
        )


def preprocessing_of(model: TorchModel) -> PreprocessSpec:
    """Return how images become the model's input.

    Raises:
        UsageError: It takes something else.
    """
    if model.preprocess is None:
        raise UsageError(
            f"'{model.name}' takes no image, and a bundle says how images are prepared.",
            found=", ".join(spec.describe() for spec in model.inputs),
            expected="one input, a batch of images",
            next_step="make the graph alone, as docs/models.md shows, then calibrate, quantize, parity and build it",
        )
    return model.preprocess


@dataclass(frozen=True, slots=True)
class Images:
    """The images of one export.

    Attributes:
        calibration: What INT8 ranges are taken from.
        checking: What parity is checked on.
        labelled: What accuracy is measured on; ``None`` without labels.
        targets: The model's output that stands for the class of each of them.
        warnings: What the user must know about images and weights.
        skipped: Files that were found among the images and not used, each with the reason.
    """

    calibration: ImageDataset
    checking: ImageDataset
    labelled: ImageDataset | None
    targets: ClassIndices
    warnings: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Work:
    """What every stage of one export needs: the request, the model, its images, and the folder it writes to."""

    request: ExportRequest
    model: TorchModel
    images: Images
    folder: Path
    progress: Progress

    @property
    def runtime(self) -> Runtime:
        """The runtime that checks graphs, INT8 exact, any number of images at a time, first in each output."""
        return ImagesFirst(OnnxRuntime(threads=self.request.threads))

    @property
    def takes_pixels(self) -> bool:
        """Whether the graphs take uint8 pixels."""
        return self.request.graph.embed_preprocessing


def open_images(request: ExportRequest, model: TorchModel, progress: Progress) -> Images:
    """Open the images that the request names; make some up where it names none."""
    spec = preprocessing_of(model)
    synthetic = synthetic_dataset(spec, SYNTHETIC_IMAGES, request.seed)
    calibration = open_dataset(request.data, spec, progress=progress) if request.data else synthetic
    evaluation = open_dataset(request.evaluation, spec, progress=progress) if request.evaluation else None
    if evaluation is not None and not evaluation.labels:
        raise UsageError(
            f"The images in '{request.evaluation}' have no labels.",
            found=f"{len(evaluation)} images without a class",
            expected="one sub-folder a class, or an .npz with 'images' and 'labels'",
            next_step="leave --eval out, or sort the images into folders",
        )
    targets = ClassIndices(0, ())
    if evaluation is not None and task_of(model) == CLASSIFY:
        targets = class_indices(evaluation, model.labels, count_outputs(model))
    calibration = calibration.limit(request.calibration_images, seed=request.seed)
    if request.data is not None:
        warn_of_findings(check_data(calibration, method=request.scheme.method), progress)
    checking = (evaluation or calibration).limit(request.parity_images, seed=request.seed)
    skipped = (*calibration.skipped, *(evaluation.skipped if evaluation else ()))
    warnings = (*_warnings(request, model, calibration), *targets.warnings)
    return Images(calibration, checking, evaluation, targets, warnings, skipped)


def all_warnings(work: Work, graphs: Sequence[OnnxArtifact], accuracy: AccuracyVerdict | None) -> Iterator[str]:
    """Yield what the user should know before shipping; what came up during the work is said now."""
    yield from work.images.warnings
    yield from (warning for graph in graphs for warning in graph.warnings)
    if accuracy is not None and accuracy.finding is not None:
        work.progress.warn(accuracy.finding)
        yield accuracy.finding


def task_of(model: TorchModel) -> str | None:
    """Return what the model is for; ``None`` where nobody could say."""
    return None if model.decoding is None else model.decoding.task


def count_outputs(model: TorchModel) -> int:
    """Return how many classes a classifier tells apart, seen by running it."""
    with PyTorch().open(model) as runner:
        image = np.zeros(model.input_shapes(batch=1)["image"], dtype=np.float32)
        return int(np.asarray(runner.run({"image": image})[model.output_names[0]]).shape[-1])


def _warnings(request: ExportRequest, model: TorchModel, calibration: ImageDataset) -> list[str]:
    warnings = list(model.warnings)
    if model.weights is Weights.RANDOM:
        warnings.append("The weights are seeded random numbers: good for graphs and latency, useless for accuracy.")
    if model.weights is Weights.UNKNOWN:
        warnings.append(
            "Nobody said whether the weights are trained, so the best class is not judged; "
            "return a ModelDescription(..., trained=True) if they are."
        )
    if request.precision.is_int8 and calibration.synthetic:
        warnings.append("The INT8 ranges come from synthetic images; give real ones with --data before you ship.")
    return warnings


def make_graphs(work: Work) -> tuple[OnnxArtifact, ...]:
    """Export the float32 reference and, where another precision was asked for, the graphs that are deployed.

    INT8 has a graph for each target runtime, all of one plan.
    """
    request, folder, progress = work.request, work.folder, work.progress
    from linglos_deploy.exporters.export import export_onnx  # needs PyTorch, which a target has not

    reference = export_onnx(work.model, request.graph, out=folder / "model.onnx", progress=progress)
    if request.precision is Precision.FP32:
        return (reference,)
    if request.precision.is_int8:
        check_patterns(request.scheme, reference)
        reference = balanced(work, reference)
    table = observe(work, reference)
    if not request.precision.is_int8:
        return (reference, narrowed(work, reference, f"model.{request.precision}.onnx", table))
    assert table is not None  # observe raises where INT8 has none
    plan = plan_quantization(reference, table, replace(request.scheme, floating=request.precision.floating))
    plan.save(folder / PLAN)
    deployed = []
    for placement in map(find_placement, request.target_runtimes or default_placements(request.precision)):
        name = placement.graph_name(request.precision)
        if request.precision is Precision.INT8:
            deployed.append(apply_plan(reference, plan, out=folder / name, placement=placement))
            continue
        with tempfile.TemporaryDirectory(prefix="linglos-export-") as scratch:
            wide = apply_plan(reference, plan, out=Path(scratch) / "model.int8.onnx", placement=placement)
            deployed.append(narrowed(work, wide, name, table))
    return (reference, *deployed)


def balanced(work: Work, reference: OnnxArtifact) -> OnnxArtifact:
    """Move scales of channels where real pictures show that INT8 gains."""
    request = work.request
    if "balance" in request.graph.without:
        return reference
    by = Balancing(work.images.calibration, request.scheme, work.runtime, request.threads, request.seed)
    return balance(reference, by, progress=work.progress)


def narrowed(work: Work, graph: OnnxArtifact, name: str, table: CalibrationTable | None) -> OnnxArtifact:
    """Make the parts of a graph that are in floating point 16 bits wide."""
    return convert_precision(
        graph,
        work.request.precision,
        out=work.folder / name,
        ranges={name: seen.absolute_maximum for name, seen in table.tensors.items()} if table else None,
        progress=work.progress,
    )


def graph_for(backend: str, graphs: Sequence[OnnxArtifact]) -> OnnxArtifact:
    """Return the graph that a backend gets: the one that is made for it, else the first that is deployed."""
    deployed = graphs[1:] or graphs
    made = (graph for graph in deployed if _serves(graph, backend))
    return next(made, deployed[0])


def _serves(graph: OnnxArtifact, backend: str) -> bool:
    placement = placement_of(graph.lineage)
    return placement is not None and placement.serves(backend, platform.machine())


def check_engines_have_graphs(request: ExportRequest, compilers: Mapping[str, Compiler]) -> None:
    """Check that each engine of an INT8 bundle has a graph that its compiler reads, before any work is spent.

    Raises:
        UsageError: TensorRT is to build an engine, and only graphs for others are asked for.
    """
    asked = [find_placement(name) for name in request.target_runtimes]
    for name in compilers:
        able = [placement.name for placement in map(find_placement, placement_names()) if name in placement.runtimes]
        if asked and able and not {placement.name for placement in asked}.intersection((*able, DEFAULT)):
            raise UsageError(
                f"An INT8 engine of {name} needs a graph that is made for it.",
                found=f"--engine {request.engine} with --target-runtime {', '.join(request.target_runtimes)}",
                expected=f"--target-runtime {able[0]} among them",
                next_step=f"add --target-runtime {able[0]}, or take --engine none",
            )


def compile_engines(
    work: Work, graphs: Sequence[OnnxArtifact], compilers: Mapping[str, Compiler]
) -> tuple[tuple[EngineArtifact, ...], tuple[EngineOutcome, ...]]:
    """Compile with every compiler the graph that is made for it."""
    engines: list[EngineArtifact] = []
    outcomes: list[EngineOutcome] = []
    for name, compiler in compilers.items():
        made, came = compile_graph(
            graph_for(name, graphs),
            work.request.engine,
            work.request.engine_options,
            compilers={name: compiler},
            folder=work.folder,
            progress=work.progress,
        )
        engines += made
        outcomes += came
    return tuple(engines), tuple(outcomes)


def observe(work: Work, reference: OnnxArtifact) -> CalibrationTable | None:
    """Run the calibration images through the reference once and keep what was seen.

    For 16 bits that is more than layers read: whatever could outgrow them. Made-up images show that, too, and nothing
    else, so their table is not kept unless INT8 ranges come from it. INT8 cannot do without ranges; 16 bits can, and
    that is said.
    """
    precision, progress = work.request.precision, work.progress
    graph, kind = load_onnx(reference.path), KINDS.get(precision.floating)
    layers = rounded_tensors(graph) if precision is Precision.INT8 else quantizable_activations(graph)
    at_risk = tensors_at_risk(graph, kind) if kind is not None else ()
    table = None
    try:
        if precision.is_int8 or layers or at_risk:
            table = collect(work, reference, (*layers, *at_risk))
    except CalibrationError as error:
        if kind is None:
            raise
        progress.warn(f"What could outgrow {precision.floating} was not looked at: {error.message}")
        if precision.is_int8:
            table = collect(work, reference, layers)
    if table is not None and (precision.is_int8 or work.request.data is not None):
        table.save(work.folder / TABLE)
    return table


def collect(work: Work, reference: OnnxArtifact, tensors: tuple[str, ...]) -> CalibrationTable:
    """Run the calibration images through the reference once and show what some of its tensors hold."""
    return calibrate(
        reference,
        work.images.calibration,
        runtime=OnnxRuntime(threads=work.request.threads, reuse_outputs=True),
        config=CalibrationConfig(tensors=tensors),
        progress=work.progress,
    )


def check_parity(work: Work, graphs: Sequence[OnnxArtifact], engines: Sequence[EngineArtifact]) -> tuple[Verdict, ...]:
    """Check every graph, and every engine that runs here, against PyTorch on golden images and on real ones."""
    images, progress, folder = work.images.checking, work.progress, work.folder
    trained = work.model.weights is Weights.TRAINED
    plan = QuantPlan.load(folder / PLAN) if work.request.precision.is_int8 else None
    table = CalibrationTable.load(folder / TABLE) if plan is not None else None
    subjects = [
        Subject(
            graph,
            precision_of(work, graph),
            trained,
            parent=graphs[0] if number else None,
            plan=plan if number else None,
            labels=work.model.labels,
            placement=placement_of(graph.lineage),
        )
        for number, graph in enumerate(graphs)
    ]
    subjects += [Subject(engine, work.request.precision, trained, labels=work.model.labels) for engine in engines]
    subjects = [replace(subject, decoding=work.model.decoding) for subject in subjects]

    def batches(signature: ModelSignature) -> Iterable[Batch]:
        return images.batches(BATCH, signature=signature)

    with ExitStack() as stack:
        runner = stack.enter_context(ImagesFirst(PyTorch()).open(work.model))
        noise = pytorch_noise(work.model, first_images(batches(runner.signature), NOISE_IMAGES))
        recording = stack.enter_context(
            recorded(runner, batches(runner.signature), source="PyTorch", ids=images.ids, progress=progress)
        )
        data = InputSet("synthetic" if images.synthetic else "data", recording, batches, noise_db=noise)
        tensors, spec = read_golden(folder / GOLDEN), preprocessing_of(work.model)
        made_up = made_up_golden(tensors, spec, work.model.size_divisor)
        noise_of = {"golden": noise, "synthetic golden": noise}
        for name, made in made_up.items():
            if any(key.startswith(f"{name}:torch:") for key in tensors):
                noise_of[name] = pytorch_noise(work.model, {"image": made["image"]})
        golden = golden_sets(
            stack, tensors, work.model.output_names, noise_of, spec=spec, divisor=work.model.size_divisor
        )
        runnable = [subject for subject in subjects if why_not_here(subject) is None]
        verdicts = check_subjects(runnable, [*golden, data], threads=work.request.threads, progress=progress)
    command = f"linglos-deploy parity {work.request.folder / (work.request.name or work.model.name)}"
    left = [not_checked(subject, reason, command) for subject in subjects if (reason := why_not_here(subject))]
    decisions = check_decisions(plan, table, graphs[0].digest) if plan is not None else ()
    return with_findings(verdicts, subjects, decisions, left)


def measure_accuracy(work: Work, graphs: Sequence[OnnxArtifact]) -> AccuracyVerdict | None:
    """Measure top-1 of PyTorch and of every graph on the labelled images."""
    images, limit = work.images.labelled, work.request.max_accuracy_drop
    if images is None or task_of(work.model) != CLASSIFY:
        return None
    output, labels = work.model.output_names[0], work.images.targets.targets
    rows = []
    with PyTorch().open(work.model) as runner:
        correct = count_correct(runner, images.batches(BATCH), labels, output=output, progress=work.progress)
        rows.append(Accuracy("PyTorch", "fp32", correct, len(images)))
    for graph in graphs:
        with open_subject(Subject(graph, precision_of(work, graph)), work.runtime) as runner:
            batches = images.batches(BATCH, signature=graph.signature)
            correct = count_correct(runner, batches, labels, output=output, progress=work.progress)
            rows.append(Accuracy(graph.path.name, precision_of(work, graph), correct, len(images)))
    worst = max(rows[0].top1 - row.top1 for row in rows[1:])
    finding = None
    if limit is not None or work.model.weights is not Weights.RANDOM:  # that those guess has been said
        finding = guessing(rows[0].correct, rows[0].count, work.images.targets.classes)
    kept = limit is None or (finding is None and worst <= limit + 1e-9)
    return AccuracyVerdict(tuple(rows), limit, worst, passed=kept, finding=finding)


def measure_latency(work: Work, graphs: Sequence[OnnxArtifact]) -> ProfileReport:
    """Measure PyTorch, and every graph on every runtime here that it is made for.

    INT8 is measured beside float32 on the same runtime. A module that only this process holds cannot be measured in
    another, nor can a graph whose runtime is not here; they are left out.
    """
    source = work.request.source
    candidates = [] if isinstance(source, HeldModel) else [Candidate("torch", source=source, label="PyTorch")]
    candidates += [
        Candidate(backend, graph.path, label=f"{graph.path.name} · {backend}", options=options_of(graph))
        for graph in graphs
        for backend in runtimes_here()
        if measured_on(work, graph, backend)
    ]
    plan = MeasurementPlan(
        batch_sizes=(work.request.graph.batch or 1,),
        threads=(work.request.threads or 1,),  # one number for all, else each runtime would take its own
        image_sizes=(preprocessing_of(work.model).input_size,),
        processes=LATENCY_PROCESSES,
        min_seconds=0.3,
    )
    return measure(candidates, plan, title=f"Latency of {work.model.name}", progress=work.progress)


def runtimes_here() -> list[str]:
    """Return the backends that run ONNX graphs as they are, and can do so on this machine."""
    probes = {name: registry.probe(name) for name in registry.available()}
    return [name for name, probe in probes.items() if probe.runs_graphs and probe.runs]


def measured_on(work: Work, graph: OnnxArtifact, backend: str) -> bool:
    """Return whether the time of a graph on a backend means something: INT8 is made for one of them."""
    placement = placement_of(graph.lineage)
    if placement is not None:
        return placement.serves(backend, platform.machine())
    # ONNX Runtime has no bfloat16 kernels for a CPU
    return (backend, precision_of(work, graph)) != ("onnxruntime", Precision.BF16)


def options_of(graph: OnnxArtifact) -> dict[str, str]:
    """Return what a graph is run with once it is deployed."""
    return {} if placement_of(graph.lineage) is None else {"int8": Int8Mode.SAFE.value}


def targets_of(graphs: Sequence[OnnxArtifact]) -> tuple[Target, ...]:
    """Return the INT8 graphs and what each is made for."""
    placed = [(graph.path.name, placement_of(graph.lineage)) for graph in graphs]
    return tuple(Target(it.name, name, it.runtimes) for name, it in placed if it is not None)


def make_golden(work: Work, graphs: Sequence[OnnxArtifact]) -> Golden:
    """Write pixels, preprocessed input and outputs of a few images, and say how closely a loader must follow.

    The first axis of each counts images, wherever the model has them.
    """
    real = real_images(work.images.checking, GOLDEN_REAL_IMAGES)
    spec = preprocessing_of(work.model)
    tensors = preprocess_golden(golden_images(spec, real, seed=work.request.seed), spec)
    made_up = made_up_golden(tensors, spec, work.model.size_divisor)
    if not work.request.graph.dynamic:
        made_up = {EXTREME: made_up[EXTREME]}
    with ImagesFirst(PyTorch()).open(work.model) as runner:
        answers = {"torch": dict(runner.run({"image": tensors["image"]}))}
        answers |= {f"{name}:torch": dict(runner.run({"image": made["image"]})) for name, made in made_up.items()}
    for graph in graphs:
        with open_subject(Subject(graph, precision_of(work, graph)), work.runtime) as runner:
            answers[graph.path.name] = dict(runner.run({"image": tensors["pixels" if work.takes_pixels else "image"]}))
    outputs = {
        f"{model}:{output}": np.asarray(value, dtype=np.float32)
        for model, values in answers.items()
        for output, value in values.items()
    }
    write_golden({**tensors, **outputs}, work.folder / GOLDEN)
    tolerance = {graph.path.name: SELF_TEST_TOLERANCE[precision_of(work, graph)] for graph in graphs}
    return Golden(file=GOLDEN, count=len(tensors["image"]), max_abs=tolerance)


def write_reports(report: ExportReport, folder: Path) -> None:
    """Write the reports that ship with the bundle."""
    folder.mkdir()
    write_html([report], folder / "report.html", title=report.name)
    write_json(report, folder / "export.json")
    for parity in report.parity:
        write_json(parity, folder / f"parity.{parity.candidate.removesuffix('.onnx')}.json")
    if report.profile is not None:
        write_json(report.profile, folder / "profile.json")


def make_manifest(
    work: Work,
    report: ExportReport,
    graphs: Sequence[OnnxArtifact],
    engines: Sequence[EngineArtifact],
    golden: Golden,
    reached: tuple[Reached, ...],
) -> Manifest:
    """Put together everything a loader needs to know."""
    kind = InputKind.PIXELS if work.takes_pixels else InputKind.TENSOR
    sources = {outcome.file: outcome.source for outcome in report.engines}
    return Manifest(
        schema=SCHEMA,
        name=report.name,
        passed=report.passed,
        warnings=report.warnings,
        weights=work.model.weights,
        synthetic_calibration=work.images.calibration.synthetic if work.request.precision.is_int8 else None,
        preprocessing=preprocessing_of(work.model),
        labels=work.model.labels,
        graphs=tuple(
            GraphEntry(
                file=graph.path.name,
                precision=precision_of(work, graph),
                input=kind,
                signature=graph.signature,
                lineage=graph.lineage,
                **_target_of(graph),
            )
            for graph in graphs
        ),
        engines=tuple(
            EngineEntry(
                file=engine.path.name,
                backend=engine.backend,
                source=sources[engine.path.name],
                precision=work.request.precision,
                input=kind,
                signature=engine.signature,
                requirements=engine.requirements,
                lineage=engine.lineage,
            )
            for engine in engines
        ),
        golden=golden,
        files={},
        tools=tool_versions("linglos-deploy", "torch", "onnx", "onnxruntime", "onnxsim", "numpy", "pillow"),
        reached=reached,
        decoding=work.model.decoding,
    )


def _target_of(graph: OnnxArtifact) -> dict[str, Any]:
    """Return what a loader is told of the runtime that a graph is made for."""
    placement = placement_of(graph.lineage)
    if placement is None:
        return {}
    # ONNX Runtime runs graphs of others in floating point, which is what was checked; its own as integers.
    own = "onnxruntime" in placement.runtimes
    return {
        "session_options": {} if own else EXACT_SESSION_OPTIONS,
        "saturating_session_options": placement.saturating_session_options if own else {},
        "placement": placement.name,
        "runtimes": placement.runtimes,
        "machines": placement.machines,
    }


def precision_of(work: Work, graph: OnnxArtifact) -> Precision:
    """Return the precision of one of the export's graphs."""
    return Precision.FP32 if graph.path.name == "model.onnx" else work.request.precision
