"""The public functions: what a Python user calls, and what the commands call.

Paths may be text, and so may choices: ``precision="int8"``, ``engine="none"``. Every function raises a
:class:`~linglos_deploy.errors.LinglosError` where it cannot do what was asked; a check that failed is a result,
whose ``passed`` is false. Importing this module is cheap; frameworks are imported by the functions that need them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace as changed
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from linglos_deploy.choices import Precision
from linglos_deploy.compat import StrEnum
from linglos_deploy.errors import UsageError
from linglos_deploy.progress import SILENT, Progress

if TYPE_CHECKING:
    from torch import nn

    from linglos_deploy.calibration.calibrate import CalibrationConfig
    from linglos_deploy.calibration.table import CalibrationTable
    from linglos_deploy.engines.options import EngineOptions
    from linglos_deploy.exporters.config import ExportConfig
    from linglos_deploy.images.options import PreprocessOptions
    from linglos_deploy.images.preprocessing import PreprocessSpec
    from linglos_deploy.models.factory import ModelDescription
    from linglos_deploy.models.loading import ModelSource
    from linglos_deploy.profiling.access import EngineAccess
    from linglos_deploy.profiling.plan import MeasurementPlan
    from linglos_deploy.quantization.scheme import QuantScheme
    from linglos_deploy.reports.comparison import ComparisonReport
    from linglos_deploy.reports.criteria import CriteriaProposal
    from linglos_deploy.reports.evaluation import EvaluationReport
    from linglos_deploy.reports.export import EngineOutcome, ExportReport
    from linglos_deploy.reports.parity import ParityOutcome
    from linglos_deploy.reports.profile import ProfileReport
    from linglos_deploy.verbs.predict import ReadyBundle
    from linglos_deploy.verbs.quantize import QuantizeResult

    StrPath = str | os.PathLike[str]
    Model = nn.Module | ModelDescription | ModelSource | StrPath

E = TypeVar("E", bound="StrEnum")


def export(
    model: Model,
    output: StrPath = "build",
    *,
    name: str | None = None,
    replace: bool = False,
    precision: Precision | str = Precision.FP32,
    image_size: int | tuple[int, int] | None = None,
    preprocess: PreprocessSpec | None = None,
    labels: Sequence[str] = (),
    data: StrPath | None = None,
    calibration_images: int | None = None,
    evaluation: StrPath | None = None,
    max_accuracy_drop: float | None = None,
    graph: ExportConfig | None = None,
    scheme: QuantScheme | None = None,
    target_runtimes: Sequence[str] = (),
    engine: str = "auto",
    engine_options: EngineOptions | None = None,
    measure_latency: bool = True,
    threads: int = 0,
    seed: int = 0,
    progress: Progress = SILENT,
) -> ExportReport:
    """Turn a model into a bundle, a directory that can ship; every step is checked against PyTorch.

        import linglos_deploy

        report = linglos_deploy.export(net, image_size=160, precision="int8", data="calib/", engine="none")
        print(report.bundle, report.passed)

    Args:
        model: A :class:`torch.nn.Module`, which stays as it is; a
            :class:`~linglos_deploy.models.factory.ModelDescription`, if there is more to say about one; the path of a
            checkpoint; a variant such as ``"s"``; ``"package.module:factory"``; or a
            :class:`~linglos_deploy.models.loading.ModelSource`.
        output: The bundle becomes a directory in this one.
        name: Name of that directory; the model's by default.
        replace: Whether a bundle that stands there is replaced.
        precision: Element types of the deployed graph: ``fp32``, ``fp16``, ``bf16``, ``int8`` or ``int8+fp16``.
        image_size: Height and width in pixels, or one number for a square; the model's own by default.
        preprocess: How images become the input of a module of yours; its ``input_size`` is the image size.
        labels: Class names of a module of yours, one per output.
        data: Calibration images: a folder, an ``.npz`` or an ``.npy`` file; synthetic images if ``None``.
        calibration_images: Largest number of them to use; all if ``None``.
        evaluation: Labelled images, one folder a class, for accuracy and parity.
        max_accuracy_drop: Largest accepted loss of top-1 against PyTorch, in percentage points.
        graph: How the model becomes a graph; its precision is ``precision``.
        scheme: How INT8 ranges are chosen.
        target_runtimes: What INT8 graphs are made for: ``tensorrt``, ``openvino``, ``onnxruntime-x86``,
            ``onnxruntime-arm``; all but the last by default.
        engine: Name of a compiler; ``auto`` takes all of NVIDIA's that work here, ``none`` compiles nothing.
        engine_options: How engines are built.
        measure_latency: Whether the graphs are profiled.
        threads: Threads of ONNX Runtime, 0 for its own choice.
        seed: Of synthetic weights and images.
        progress: Told about every stage, and warned.

    Returns:
        What was made and what came of every check.

    Raises:
        UsageError: The request contradicts itself, or something is not what it should be.
        LinglosError: Something is missing, or a stage failed.
    """
    from linglos_deploy.exporters.config import ExportConfig
    from linglos_deploy.pipeline import ExportRequest, export_bundle
    from linglos_deploy.quantization.scheme import QuantScheme

    kind = choice_of(Precision, precision, option="precision")
    request = ExportRequest(
        source=_source_of(model, image_size=image_size, preprocess=preprocess, labels=labels, seed=seed),
        folder=Path(output),
        name=name,
        replace=replace,
        graph=changed(graph or ExportConfig(), precision=kind),
        precision=kind,
        data=_path_of(data),
        calibration_images=calibration_images,
        evaluation=_path_of(evaluation),
        max_accuracy_drop=max_accuracy_drop,
        scheme=scheme or QuantScheme(),
        target_runtimes=tuple(target_runtimes),
        engine=engine,
        measure_latency=measure_latency,
        threads=threads,
        seed=seed,
    )
    if engine_options is not None:
        request = changed(request, engine_options=engine_options)
    return export_bundle(request, progress=progress)


def calibrate(
    model: StrPath,
    data: StrPath | None = None,
    output: StrPath = "calibration.table",
    *,
    images: int | None = None,
    shard: tuple[int, int] | None = None,
    resume: bool = False,
    dask: str | None = None,
    strict: bool = False,
    preprocess: PreprocessOptions | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    config: CalibrationConfig | None = None,
    threads: int = 0,
    seed: int = 0,
    replace: bool = False,
    progress: Progress = SILENT,
) -> CalibrationTable:
    """Run images through a float32 graph once, in constant memory, and write down what was seen.

        table = linglos_deploy.calibrate("build/linglo_s/model.onnx", "calib/", "calibration.table")
        print(table.image_count, len(table.tensors))

    Args:
        model: The float32 graph, or a bundle, which has one.
        data: A folder of images, an ``.npz`` or an ``.npy`` file; synthetic images if ``None``.
        output: Where the table goes.
        images: Largest number of images; all if ``None``.
        shard: Number of this machine's share of the images, from 1, and the number of shares.
        resume: Whether to go on where an interrupted run stopped.
        dask: Address of a dask scheduler whose workers share the images.
        strict: Whether suspicious images are an error.
        preprocess: How images become the input of a graph that does not say it itself.
        shapes: Whole shapes of made-up inputs by name, where the graph leaves sizes open and there are no ``data``.
        config: How statistics are collected.
        threads: Threads of ONNX Runtime, 0 for its own choice.
        seed: Of the choice of images, and of synthetic ones.
        replace: Whether a table that lies there is replaced.
        progress: Told about every stage, and warned.

    Returns:
        Minimum, maximum, moments and histogram of every tensor that a quantized layer reads.

    Raises:
        UsageError: The graph is quantized already.
        OutputError: A table lies there that is not to be replaced.
        ArtifactError: The graph is missing or damaged.
        DataError: The images cannot be used, or look wrong and ``strict`` is set.
        CalibrationError: A checkpoint belongs to another calibration.
    """
    from linglos_deploy.calibration.calibrate import CalibrationConfig
    from linglos_deploy.graph.feeds import Sizes
    from linglos_deploy.images.options import PreprocessOptions
    from linglos_deploy.verbs.calibrate import CalibrateRequest, calibrate_graph

    request = CalibrateRequest(
        model=Path(model),
        data=_path_of(data),
        out=Path(output),
        images=images,
        shard=shard,
        resume=resume,
        dask=dask,
        strict=strict,
        preprocess=preprocess or PreprocessOptions(),
        sizes=Sizes(shapes=shapes or {}),
        config=config or CalibrationConfig(),
        threads=threads,
        seed=seed,
        replace=replace,
    )
    return calibrate_graph(request, progress=progress)


def quantize(
    model: StrPath,
    output: StrPath | None = None,
    *,
    table: StrPath | None = None,
    plan: StrPath | None = None,
    scheme: QuantScheme | None = None,
    target_runtime: str = "tensorrt",
    save_plan: StrPath | None = None,
    dry_run: bool = False,
    data: StrPath | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    replace: bool = False,
    progress: Progress = SILENT,
) -> QuantizeResult:
    """Turn a calibration table into a plan that says why, and the plan into an INT8 graph.

        result = linglos_deploy.quantize("model.onnx", "model.int8.onnx", table="calibration.table")
        print(result.plan.quantized_nodes)

    Args:
        model: The float32 graph, or a bundle, which has one.
        output: Where the INT8 graph goes; ``.int8.onnx`` beside the float32 graph by default.
        table: What calibration saw; or give ``plan``.
        plan: A plan to carry out instead of making one.
        scheme: How a plan is made.
        target_runtime: What the graph is made for; the plan is one for all.
        save_plan: Where the plan goes; beside the INT8 graph by default.
        dry_run: Whether to stop after the plan.
        data: Inputs that a conversion of an opset below 13 is checked on; made-up ones if ``None``.
        shapes: Whole shapes of made-up inputs by name, where the graph leaves sizes open.
        replace: Whether files that lie there are replaced.
        progress: Told about every stage.

    Returns:
        The plan, and the graph unless this was a dry run.

    Raises:
        UsageError: Neither or both of ``table`` and ``plan`` were given, the graph is quantized already, or a pattern
            of the scheme names no layer.
        OutputError: A file lies there that is not to be replaced.
        ArtifactError: A file is missing or damaged.
        CalibrationError: The table belongs to another graph.
        QuantizationError: The plan cannot be made, or does not fit the graph.
    """
    from linglos_deploy.graph.feeds import Sizes
    from linglos_deploy.quantization.scheme import QuantScheme
    from linglos_deploy.verbs.quantize import QuantizeRequest, quantize_graph

    request = QuantizeRequest(
        model=Path(model),
        table=_path_of(table),
        plan=_path_of(plan),
        scheme=scheme or QuantScheme(),
        placement=target_runtime,
        out=_path_of(output) or Path(model).with_suffix(".int8.onnx"),
        save_plan=_path_of(save_plan),
        dry_run=dry_run,
        data=_path_of(data),
        sizes=Sizes(shapes=shapes or {}),
        replace=replace,
    )
    return quantize_graph(request, progress=progress)


def build(
    model: StrPath,
    output: StrPath | None = None,
    *,
    engine: str = "auto",
    engine_options: EngineOptions | None = None,
    progress: Progress = SILENT,
) -> tuple[EngineOutcome, ...]:
    """Compile an ONNX graph into engines; the graph's precision is the engine's.

        for outcome in linglos_deploy.build("model.int8.onnx", engine="tensorrt-rtx"):
            print(outcome.backend, outcome.file, outcome.detail)

    Args:
        model: The graph, or a bundle, whose deployed graph is taken.
        output: Folder of the engines; that of the graph by default.
        engine: Name of a compiler; ``auto`` takes all of NVIDIA's that work here.
        engine_options: Profiles, target and settings.
        progress: Told about every stage.

    Returns:
        What came of every compiler: an engine, or why there is none.

    Raises:
        ArtifactError: The graph is missing or damaged.
        MissingDependencyError: Nothing can be built here.
        BuildError: The graph cannot be compiled.
    """
    from linglos_deploy.engines.options import EngineOptions
    from linglos_deploy.verbs.build import build_engines

    return build_engines(
        Path(model),
        engine,
        engine_options or EngineOptions(),
        folder=_path_of(output) or (Path(model) if Path(model).is_dir() else Path(model).parent),
        progress=progress,
    )


def check_parity(
    candidate: StrPath,
    *,
    reference: StrPath | None = None,
    model: Model | None = None,
    data: StrPath | None = None,
    precision: Precision | str | None = None,
    images: int | None = None,
    threads: int = 0,
    layers: bool | None = None,
    locate: bool = False,
    preprocess: PreprocessOptions | None = None,
    criteria: StrPath | None = None,
    limits: Mapping[str, float | None] | None = None,
    plan: StrPath | None = None,
    unplanned: bool = False,
    access: EngineAccess | None = None,
    dask: str | None = None,
    progress: Progress = SILENT,
) -> ParityOutcome:
    """Check that a bundle's graphs, or one graph, still answer as the reference does.

        outcome = linglos_deploy.check_parity("build/linglo_s")
        assert outcome.passed, outcome.reports

    Args:
        candidate: A bundle, or an ONNX graph.
        reference: The graph that ``candidate`` should agree with; not with a bundle, which has its own.
        model: The PyTorch model to check against, in any form that :func:`export` takes.
        data: Images to check on; a bundle brings golden ones.
        precision: Check only the bundle's graph of this precision; for two graphs, whose criteria apply.
        images: Largest number of images of ``data``; 256 if ``None``.
        threads: Threads of ONNX Runtime, 0 for its own choice.
        layers: Whether inner tensors are compared with the float32 graph's: judged if ``None``, and reported if true.
        locate: Whether the first tensor is looked for that is not what it should be.
        preprocess: How images become the input of graphs that do not say it themselves; a bundle says it.
        criteria: A file of limits, as docs/parity.md describes it.
        limits: Limits of all outputs by name, on top of the file's; ``None`` as a limit asks for nothing.
        plan: The quantization plan that an INT8 graph must carry out; a bundle brings its own.
        unplanned: Whether an INT8 graph is judged without a plan, its scales taken as they are.
        access: Device, weights and consent with which engines are opened.
        dask: Address of a dask scheduler whose workers answer to the images of ``data``.
        progress: Told about every stage.

    Returns:
        One report per graph; ``passed`` is whether all of them agree, ``undecided`` whether that cannot be told, as for
        the scales of an INT8 graph without its plan.

    Raises:
        UsageError: The request does not fit what it is about.
        ArtifactError: A bundle or graph is missing or damaged.
        MissingDependencyError: An engine was named that cannot run here, or there is no cluster.
        DataError: The images cannot be used, or a shard failed on the cluster.
    """
    from linglos_deploy.images.options import PreprocessOptions
    from linglos_deploy.profiling.access import EngineAccess
    from linglos_deploy.verbs.check_parity import ParityRequest, check

    request = ParityRequest(
        candidate=Path(candidate),
        reference=_path_of(reference),
        source=None if model is None else _source_of(model),
        data=_path_of(data),
        precision=None if precision is None else choice_of(Precision, precision, option="precision"),
        images=images,
        threads=threads,
        layers=layers,
        locate=locate,
        preprocess=preprocess or PreprocessOptions(),
        criteria=_path_of(criteria),
        limits=limits or {},
        plan=_path_of(plan),
        unplanned=unplanned,
        access=access or EngineAccess(),
        dask=dask,
    )
    return check(request, progress=progress)


def calibrate_criteria(
    candidate: StrPath,
    output: StrPath = "parity.toml",
    *,
    reference: StrPath | None = None,
    model: Model | None = None,
    data: StrPath | None = None,
    images: int | None = None,
    precision: Precision | str | None = None,
    replace: bool = False,
    progress: Progress = SILENT,
) -> CriteriaProposal:
    """Check a good model under several conditions, and write limits that it keeps: ``check_parity(criteria=…)``.

        proposal = linglos_deploy.calibrate_criteria("build/linglo_s", "parity.toml", data="val/")
        for limit in proposal.limits:
            print(limit.output, limit.metric, limit.worst, limit.limit, limit.reason)

    Args:
        candidate: A bundle, or an ONNX graph.
        output: Where the file of limits goes.
        reference: The graph that ``candidate`` should agree with; not with a bundle, which has its own.
        model: The PyTorch model to check against, in any form that :func:`export` takes.
        data: Images, best those that later checks use.
        images: Largest number of them; 256 if ``None``.
        precision: Only the bundle's graph of this precision.
        replace: Whether a file that lies there is replaced.
        progress: Told about every stage.

    Returns:
        The limits, each with what was reached and why; and what fails whatever they are.

    Raises:
        UsageError: The request does not fit what it is about.
        OutputError: A file lies there that is not to be replaced.
        ArtifactError: A bundle or graph is missing or damaged.
        DataError: The images cannot be used.
    """
    from linglos_deploy.verbs.criteria import CriteriaRequest
    from linglos_deploy.verbs.criteria import calibrate_criteria as calibrated

    request = CriteriaRequest(
        candidate=Path(candidate),
        out=Path(output),
        reference=_path_of(reference),
        source=None if model is None else _source_of(model),
        data=_path_of(data),
        precision=None if precision is None else choice_of(Precision, precision, option="precision"),
        images=images,
        replace=replace,
    )
    return calibrated(request, progress=progress)


def profile(
    *models: StrPath,
    backends: Sequence[str] = ("onnxruntime",),
    plan: MeasurementPlan | None = None,
    max_p50_ms: float | None = None,
    gate: float | None = None,
    access: EngineAccess | None = None,
    progress: Progress = SILENT,
) -> ProfileReport:
    """Measure latency: fresh processes of every model in blocks, in turns, ratios with intervals.

        report = linglos_deploy.profile("build/linglo_s", backends=["onnxruntime", "openvino"])
        for row in report.rows:
            print(row.label, row.outcome)

    Args:
        models: Bundles, graphs or engines; ratios refer to the first.
        backends: What runs the graphs; engines run on their own.
        plan: Batch sizes, threads, processes and times.
        max_p50_ms: The slowest acceptable median, in milliseconds.
        gate: How much slower, relative, the other models may be than the first; what seems slower is measured twice.
        access: What engines need to be opened, beyond their files: a device, weights, consent to code in them.
        progress: Told about every round.

    Returns:
        A row for every model, batch size and number of threads.

    Raises:
        UsageError: A path is no model, a backend is unknown, or two rows would have one name.
        ArtifactError: A file is missing or damaged.
    """
    from linglos_deploy.kinds import candidates_by_path
    from linglos_deploy.profiling.gate import measure_with_gate
    from linglos_deploy.profiling.measure import measure
    from linglos_deploy.profiling.plan import LatencyBudget, MeasurementPlan

    plan = plan or MeasurementPlan()
    groups = candidates_by_path([Path(model) for model in models], backends, access, progress=progress)
    budget = None if max_p50_ms is None else LatencyBudget(max_p50_ms)
    if gate is not None:
        return measure_with_gate(groups, plan, limit=gate, budget=budget, progress=progress)
    return measure([candidate for group in groups for candidate in group], plan, budget=budget, progress=progress)


def compare(
    old: StrPath,
    new: StrPath,
    *,
    max_drop: Mapping[str, float] | None = None,
    max_growth: float | None = None,
    max_regression: float | None = None,
) -> ComparisonReport:
    """Hold a new bundle or report against an old one.

        report = linglos_deploy.compare("released/linglo_s", "build/linglo_s", max_drop={"sqnr_db": 1.5})
        for change in report.changes:
            print(change.subject, change.measure, change.old, change.new, change.passed)

    Args:
        old: A bundle, or a report as JSON.
        new: Another one of the same kind.
        max_drop: Accepted loss per measure, in its unit: ``sqnr_db``, ``top1_agreement``, ``accuracy`` (points), …;
            what another machine or other images explain is accepted if ``None``.
        max_growth: Accepted growth of a file, as a share; 0.05 if ``None``.
        max_regression: Accepted loss of speed, as a share.

    Returns:
        What was judged, and what else has changed; ``passed`` is whether nothing is worse than it may be.

    Raises:
        UsageError: The two cannot be compared, or a tolerance has no use for them.
        ArtifactError: One of them is missing or damaged.
    """
    from linglos_deploy.comparing.compare import compare_paths
    from linglos_deploy.comparing.tolerances import Tolerances

    return compare_paths(Path(old), Path(new), Tolerances(max_drop or {}, max_growth, max_regression))


def evaluate(
    bundle: StrPath,
    data: StrPath,
    *,
    precision: Precision | str | None = None,
    max_drop: float | None = None,
    threads: int = 0,
    seed: int = 0,
    progress: Progress = SILENT,
) -> EvaluationReport:
    """Judge every graph of a bundle on pictures of which the truth is known, by the metric of its task.

        report = linglos_deploy.evaluate("build/linglo_s", "val/", max_drop=1.0)
        for score in report.scores:
            print(score.graph, report.metric, score.score.value, score.change)

    Args:
        bundle: The bundle.
        data: What docs/tasks.md says of the task: labelled images, pictures with masks, and the like.
        precision: Only the graph of this precision, beside the float32 one.
        max_drop: Largest accepted loss against float32, in percentage points.
        threads: Threads of ONNX Runtime, 0 for its own choice.
        seed: Of the resampling that gives the intervals.
        progress: Told of every picture, and warned.

    Returns:
        A score with an interval for each graph; ``passed`` is whether none loses more than ``max_drop``.

    Raises:
        UsageError: The task has no metric, or the bundle no graph of that precision.
        ArtifactError: The bundle is missing or damaged.
        DataError: The data cannot be used.
    """
    from linglos_deploy.verbs.evaluate import EvaluateRequest
    from linglos_deploy.verbs.evaluate import evaluate as judged

    request = EvaluateRequest(
        bundle=Path(bundle),
        data=Path(data),
        precision=None if precision is None else choice_of(Precision, precision, option="precision"),
        max_drop=max_drop,
        threads=threads,
        seed=seed,
    )
    return judged(request, progress=progress)


def open_bundle(path: StrPath) -> ReadyBundle:
    """Open a bundle and check every byte of it.

        bundle = linglos_deploy.open_bundle("build/linglo_s")
        print(bundle.manifest.labels, bundle.find_graph("int8").file)
        (prediction,) = bundle.predict("cat.jpg")

    Args:
        path: The bundle's directory.

    Returns:
        Its manifest, where its files are, and ``predict``.

    Raises:
        ArtifactError: The manifest is missing, damaged or of another schema; a file is missing, has another size or
            digest, or lies outside the directory.
    """
    from linglos_deploy.verbs.predict import open_ready

    return open_ready(Path(path))


def choice_of(kind: type[E], value: E | str, *, option: str) -> E:
    """Return the member that ``value`` is, or whose text it is.

    Raises:
        UsageError: There is none.
    """
    try:
        return kind(value)
    except ValueError:
        members = ", ".join(kind)
        raise UsageError(f"There is no {option} '{value}'.", found=str(value), expected=members) from None


def _source_of(
    model: Model,
    *,
    image_size: int | tuple[int, int] | None = None,
    preprocess: PreprocessSpec | None = None,
    labels: Sequence[str] = (),
    seed: int = 0,
) -> ModelSource:
    """Return where a model comes from, in whichever form it was given."""
    from linglos_deploy.models.factory import SPEC, ModelDescription
    from linglos_deploy.models.loading import HeldModel, ModelSource
    from linglos_deploy.models.variants import VARIANTS

    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if isinstance(model, str | os.PathLike | ModelSource):
        if preprocess is not None or labels:
            raise UsageError(
                "Preprocessing and labels are given here for modules of your own.",
                found=f"{model!r}",
                expected="a torch.nn.Module, or the checkpoint's own preprocessing and labels",
                next_step="write them into the checkpoint, or return a ModelDescription from a factory",
            )
        if isinstance(model, ModelSource):
            return model if size is None else changed(model, image_size=size)
        text = os.fspath(model)
        if isinstance(model, str) and text in VARIANTS:
            return ModelSource(variant=text, image_size=size, seed=seed)
        if isinstance(model, str) and SPEC.fullmatch(text):
            return ModelSource(factory=text, image_size=size, seed=seed)
        return ModelSource(checkpoint=Path(text), image_size=size, seed=seed)
    described = model if isinstance(model, ModelDescription) else ModelDescription(model)
    from torch import nn

    if not isinstance(described.module, nn.Module):
        raise UsageError(
            "This is no model.",
            found=f"{described.module!r}"[:80],
            expected="a torch.nn.Module, a ModelDescription, a variant, a checkpoint or package.module:factory",
            next_step="give an instance, as in export(Net(), …)",
        )
    if isinstance(labels, str):
        raise UsageError(
            "Labels are a sequence of names; a text would be one name a letter.",
            found=f"{labels!r}"[:80],
            expected="such as ('cat', 'dog')",
            next_step="labels=Path('labels.txt').read_text().splitlines()",
        )
    described = changed(
        described,
        name=described.name or type(described.module).__name__,
        preprocess=preprocess or described.preprocess,
        labels=tuple(labels) or described.labels,
    )
    return HeldModel(module=described, image_size=size, seed=seed)


def _path_of(path: StrPath | None) -> Path | None:
    return None if path is None else Path(path)
