"""Run images through a graph and keep what was seen: what ``calibrate`` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from linglos_deploy.artifacts import OnnxArtifact, open_onnx
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.calibration.calibrate import CalibrationConfig, calibrate
from linglos_deploy.calibration.table import CalibrationTable, merge_tables
from linglos_deploy.errors import UsageError
from linglos_deploy.files import check_new
from linglos_deploy.graph.feeds import ONE, Sizes
from linglos_deploy.graph.inputs import open_inputs, preprocessing_for, synthetic_inputs
from linglos_deploy.images.checks import check_data, warn_of_findings
from linglos_deploy.images.dataset import SYNTHETIC_IMAGES
from linglos_deploy.images.options import NOTHING_SAID, PreprocessOptions
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.images.samples import Dataset
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.verbs.graphs import float_graph


@dataclass(frozen=True, slots=True)
class CalibrateRequest:
    """What ``calibrate`` works on.

    Attributes:
        model: The float32 graph, or a bundle, which has one.
        data: A folder of images, an ``.npz`` or an ``.npy``; synthetic images if ``None``. See
            :func:`~linglos_deploy.graph.inputs.open_inputs`.
        out: Where the table goes.
        images: Largest number of images; all if ``None``.
        shard: Number of this machine's share of the images, from 1, and the number of shares.
        resume: Whether to go on where an interrupted run stopped.
        dask: Address of a dask scheduler whose workers share the images; ``None`` for this process.
        strict: Whether suspicious images are an error.
        config: How statistics are collected.
        threads: Threads of ONNX Runtime, 0 for its own choice.
        seed: Of the choice of images, and of synthetic ones.
        preprocess: How images become the graph's input, where it does not say so itself.
        sizes: Of synthetic input, where the graph leaves them open.
        replace: Whether a table that lies there is replaced.
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
    preprocess: PreprocessOptions = NOTHING_SAID
    sizes: Sizes = ONE
    replace: bool = False

    def __post_init__(self) -> None:
        if self.dask is not None and (self.data is None or self.shard is not None or self.resume):
            raise UsageError(
                "A cluster shares out the images itself.",
                found="--dask together with --shard or --resume, or without --data",
                expected="--dask ADDRESS --data PATH, where every worker sees PATH",
            )
        if self.sizes != ONE and self.data is not None:
            raise UsageError(
                "Real input brings its own sizes.",
                found="--shape together with --data",
                expected="--shape for input that is made up, or --data",
                next_step="leave --shape out",
            )
        if self.strict and self.data is None:
            raise UsageError(
                "Images that are made up cannot look wrong.",
                found="--strict without --data",
                expected="--strict and --data, or neither",
                next_step="--strict --data images/",
            )


def calibrate_graph(request: CalibrateRequest, *, progress: Progress = SILENT) -> CalibrationTable:
    """Run the images through the graph once, and write what was seen.

    Until the table is whole, what was seen so far lies in a checkpoint beside it; see :func:`checkpoint_of`.

    Raises:
        UsageError: The graph is quantized already, or neither it nor the request says how images become its input.
        OutputError: A table lies there that is not to be replaced.
        ArtifactError: The graph is missing or damaged.
        DataError: The images cannot be used, or look wrong and the request is strict.
        CalibrationError: A checkpoint belongs to another calibration.
    """
    check_new(request.out, replace=request.replace)
    model = open_onnx(float_graph(request.model, verb="calibrate"))
    spec = preprocessing_for(model, request.preprocess, progress=progress)
    runtime = OnnxRuntime(threads=request.threads, reuse_outputs=True)
    images = _calibration_images(request, model, spec, progress)
    if request.dask is not None and request.data is not None:
        from linglos_deploy.calibration.distributed import calibrate_distributed

        table = calibrate_distributed(
            model,
            images,
            request.data,
            address=request.dask,
            runtime=runtime,
            config=request.config,
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


def _calibration_images(
    request: CalibrateRequest, model: OnnxArtifact, spec: PreprocessSpec | None, progress: Progress
) -> Dataset:
    images: Dataset
    if request.data is None:
        what = "inputs are" if spec is None else "images are"
        progress.warn(f"The calibration {what} synthetic; give real ones with --data before you ship.")
        count = request.images or SYNTHETIC_IMAGES
        if spec is not None and request.sizes != ONE:
            raise UsageError(
                "It is known already which images the graph takes.",
                found=f"--shape, and {spec.describe()}",
                expected="one of them",
                next_step="--imgsz for images of another size",
            )
        images = synthetic_inputs(model, spec, count=count, seed=request.seed, sizes=request.sizes)
    else:
        images = open_inputs(request.data, model, spec, progress=progress).limit(request.images, seed=request.seed)
        warn_of_findings(check_data(images, strict=request.strict), progress)
    return images if request.shard is None else images.shard(*request.shard)


def merge_table_files(tables: Sequence[Path], *, out: Path, replace: bool = False) -> CalibrationTable:
    """Merge tables of shards into one, the same as one pass over all images would have made.

    Raises:
        OutputError: Something lies at ``out`` that is not to be replaced.
        ArtifactError: A table is missing or damaged.
        CalibrationError: They do not belong together.
    """
    check_new(out, replace=replace)
    merged = merge_tables([CalibrationTable.load(path) for path in tables])
    merged.save(out)
    return merged
