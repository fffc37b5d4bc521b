"""Single stages of the pipeline on files: what ``calibrate``, ``quantize`` and ``build`` do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from linglos_deploy.artifacts import OnnxArtifact, open_onnx
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.calibration.calibrate import CalibrationConfig, calibrate
from linglos_deploy.calibration.data import ImageDataset, open_dataset, synthetic_dataset
from linglos_deploy.calibration.data_checks import Finding, Problem, check_data
from linglos_deploy.calibration.table import CalibrationTable, merge_tables
from linglos_deploy.choices import EngineChoice
from linglos_deploy.engines import EngineOptions, choose_compilers, compile_graph, not_built
from linglos_deploy.errors import MissingDependencyError, UsageError
from linglos_deploy.exporters.metadata import read_preprocessing
from linglos_deploy.files import atomic_file
from linglos_deploy.preprocessing import PreprocessSpec
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.quantization.apply import apply_plan
from linglos_deploy.quantization.plan import QuantPlan, plan_quantization
from linglos_deploy.quantization.scheme import QuantScheme
from linglos_deploy.reports.export import EngineOutcome

SYNTHETIC_IMAGES = 32
"""Made-up images where nobody gave real ones: enough to fill every range."""


@dataclass(frozen=True, slots=True)
class CalibrateRequest:
    """What ``calibrate`` works on.

    Attributes:
        model: The float32 graph.
        data: A folder of images, an ``.npz`` or an ``.npy``; synthetic images if ``None``.
        out: Where the table goes.
        images: Largest number of images; all if ``None``.
        shard: Number of this machine's share of the images, from 1, and the number of shares.
        resume: Whether to go on where an interrupted run stopped.
        dask: Address of a dask scheduler whose workers share the images; ``None`` for this process.
        strict: Whether suspicious images are an error.
        config: How statistics are collected.
        threads: Threads of ONNX Runtime, 0 for its own choice.
        seed: Of the choice of images, and of synthetic ones.
    """

    model: Path
    data: Path | None
    out: Path
    images: int | None = None
    shard: tuple[int, int] | None = None
    resume: bool = False
    dask: str | None = None
    strict: bool = False
    config: CalibrationConfig = field(default_factory=CalibrationConfig)
    threads: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dask is not None and (self.data is None or self.shard is not None or self.resume):
            raise UsageError(
                "A cluster shares out the images itself.",
                found="--dask together with --shard or --resume, or without --data",
                expected="--dask ADDRESS --data PATH, where every worker sees PATH",
            )


@dataclass(frozen=True, slots=True)
class QuantizeRequest:
    """What ``quantize`` works on.

    Attributes:
        model: The float graph.
        table: What calibration saw; needed to make a plan.
        plan: A plan to carry out instead.
        scheme: How a plan is made.
        out: Where the INT8 graph goes.
        save_plan: Where the plan goes; beside ``out`` if ``None``.
        dry_run: Whether to stop after the plan.
    """

    model: Path
    table: Path | None
    plan: Path | None
    scheme: QuantScheme
    out: Path
    save_plan: Path | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        if (self.table is None) == (self.plan is None):
            raise UsageError(
                "quantize needs a table or a plan.",
                found="neither" if self.table is None else "both",
                expected="one of --table and --plan",
                next_step=f"linglos-deploy calibrate {self.model} --data images/ makes a table",
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


def calibrate_graph(request: CalibrateRequest, *, progress: Progress = SILENT) -> CalibrationTable:
    """Run the images through the graph once, and write what was seen.

    Until the table is whole, what was seen so far lies in a checkpoint beside it; see :func:`checkpoint_of`.

    Raises:
        ArtifactError: The graph is missing or damaged, or does not say how images become its input.
        DataError: The images cannot be used, or look wrong and the request is strict.
        CalibrationError: A checkpoint belongs to another calibration.
    """
    model = open_onnx(request.model)
    spec = read_preprocessing(request.model)
    runtime = OnnxRuntime(threads=request.threads, reuse_outputs=True)
    images = _calibration_images(request, spec, progress)
    if request.dask is not None and request.data is not None:
        from linglos_deploy.calibration.distributed import calibrate_distributed

        table = calibrate_distributed(
            model,
            request.data,
            spec,
            address=request.dask,
            runtime=runtime,
            config=request.config,
            limit=request.images,
            seed=request.seed,
            progress=progress,
        )
    else:
        checkpoint = checkpoint_of(request.out)
        try:
            table = calibrate(
                model,
                images,
                runtime=runtime,
                config=request.config,
                checkpoint=checkpoint,
                resume=request.resume,
                progress=progress,
            )
        except KeyboardInterrupt:
            if checkpoint.exists():
                progress.warn(f"What was seen is in '{checkpoint}'; the same command with --resume goes on from there.")
            raise
    table.save(request.out)
    return table


def checkpoint_of(table: Path) -> Path:
    """Return where an unfinished table keeps what was seen so far."""
    return table.with_name(f"{table.name}.checkpoint")


def _calibration_images(request: CalibrateRequest, spec: PreprocessSpec, progress: Progress) -> ImageDataset:
    if request.data is None:
        progress.warn("The calibration images are synthetic; give real ones with --data before you ship.")
        images = synthetic_dataset(spec, request.images or SYNTHETIC_IMAGES, request.seed)
    else:
        images = open_dataset(request.data, spec, progress=progress).limit(request.images, seed=request.seed)
        warn_of_findings(check_data(images, strict=request.strict), progress)
    return images if request.shard is None else images.shard(*request.shard)


def warn_of_findings(findings: Sequence[Finding], progress: Progress) -> None:
    """Warn of what looks wrong with calibration images; skipped files were named when they were found."""
    for finding in findings:
        if finding.problem is not Problem.SKIPPED:
            progress.warn(f"{finding.message}.")


def merge_table_files(tables: Sequence[Path], *, out: Path) -> CalibrationTable:
    """Merge tables of shards into one, the same as one pass over all images would have made.

    Raises:
        ArtifactError: A table is missing or damaged.
        CalibrationError: They do not belong together.
    """
    merged = merge_tables([CalibrationTable.load(path) for path in tables])
    merged.save(out)
    return merged


def quantize_graph(request: QuantizeRequest, *, progress: Progress = SILENT) -> QuantizeResult:
    """Make a plan from a table, or take a given one, and carry it out.

    Raises:
        ArtifactError: A file is missing or damaged.
        CalibrationError: The table belongs to another graph.
        QuantizationError: The plan cannot be made or does not fit the graph.
    """
    model = open_onnx(request.model)
    if request.dry_run:
        plan = _make_plan(model, request)
        return QuantizeResult(None, _save_plan(plan, request), plan)
    with atomic_file(request.out) as partial:
        with progress.stage("Quantizing"):
            plan = _make_plan(model, request)
            graph = apply_plan(model, plan, out=partial)
        plan_file = _save_plan(plan, request)
    return QuantizeResult(replace(graph, path=request.out), plan_file, plan)


def _make_plan(model: OnnxArtifact, request: QuantizeRequest) -> QuantPlan:
    if request.table is None:
        assert request.plan is not None
        return QuantPlan.load(request.plan)
    return plan_quantization(model, CalibrationTable.load(request.table), request.scheme)


def _save_plan(plan: QuantPlan, request: QuantizeRequest) -> Path | None:
    """Keep a plan that was made here; one that was given lies where it is."""
    if request.plan is not None:
        return None
    path = request.save_plan or request.out.with_suffix(".plan.json")
    plan.save(path)
    return path


def build_engines(
    model: Path, choice: EngineChoice, engine_options: EngineOptions, *, folder: Path, progress: Progress = SILENT
) -> tuple[EngineOutcome, ...]:
    """Compile one graph with every compiler that ``choice`` stands for.

    Raises:
        ArtifactError: The graph is missing or damaged.
        MissingDependencyError: Nothing can be built here.
        BuildError: The graph cannot be compiled.
    """
    if choice is EngineChoice.NONE:
        raise UsageError(
            "There is nothing to build.",
            found="--engine none",
            expected="an engine to build",
            next_step="--engine auto",
        )
    compilers, passed_over = choose_compilers(choice, engine_options)
    if not compilers:
        raise MissingDependencyError(
            "No engine can be built here.",
            found="; ".join(f"{probe.name}: {probe.detail}" for probe in passed_over),
            expected="tensorrt-rtx, or tensorrt and a GPU",
            next_step=passed_over[0].how_to_get if passed_over else "see 'linglos-deploy doctor'",
        )
    _, outcomes = compile_graph(
        open_onnx(model), choice, engine_options, compilers=compilers, folder=folder, progress=progress
    )
    everything = (*outcomes, *(not_built(probe, model.name) for probe in passed_over))
    if not any(outcome.file for outcome in everything):
        raise MissingDependencyError(
            "No engine could be built.",
            found="; ".join(f"{outcome.backend}: {outcome.detail}" for outcome in everything),
            expected="a compiler that works here",
            next_step="see 'linglos-deploy doctor'",
        )
    return everything
