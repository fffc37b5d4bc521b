"""From a graph and images to a calibration table: in one pass, in constant memory, and it can be taken up again.

images -> batches, spread over cores within the memory budget -> activations -> statistics -> table
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from linglos_deploy.artifacts import OnnxArtifact
from linglos_deploy.backends.base import Runtime
from linglos_deploy.calibration.checkpoint import remove_checkpoint, take_up, write_checkpoint
from linglos_deploy.calibration.collect import Collector, open_collector
from linglos_deploy.calibration.coverage import Coverage
from linglos_deploy.calibration.prefetch import ahead
from linglos_deploy.calibration.sampling import EVERYTHING, Sampling
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.errors import DataError, UsageError
from linglos_deploy.images.dataset import warn_of_skipped
from linglos_deploy.images.samples import Dataset
from linglos_deploy.images.sources import Skipped
from linglos_deploy.progress import SILENT, Progress

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class CalibrationConfig:
    """How to collect. Only ``tensors``, ``per_channel`` and ``sampling`` can change the table.

    Attributes:
        tensors: What to observe; the data inputs of all convolutions and linear layers if ``None``.
        per_channel: Whether to keep ranges and moments per channel, too.
        sampling: Which elements histograms and moments cover.
        memory_budget: Bytes that the activations of all runs at the same time may take.
        batch_size: Images of one run, instead of what the budget allows. Runs hold one image all the same where more
            would change the table, which is warned of.
    """

    tensors: tuple[str, ...] | None = None
    per_channel: bool = False
    sampling: Sampling = EVERYTHING
    memory_budget: int = 96 * MEBIBYTE
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.memory_budget < 1:
            raise UsageError("The memory budget must be above 0.", found=f"{self.memory_budget} bytes")
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError("A batch holds an image or more.", found=str(self.batch_size), expected="1 or more")


DEFAULT = CalibrationConfig()


def calibrate(
    model: OnnxArtifact,
    dataset: Dataset,
    *,
    runtime: Runtime,
    config: CalibrationConfig = DEFAULT,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress = SILENT,
) -> CalibrationTable:
    """Run all images through a graph once and return what was seen.

    Args:
        model: A float32 graph.
        dataset: The images or other inputs, or a shard of them.
        runtime: Runs the graph; it should reuse its output buffers.
        config: How to collect.
        checkpoint: Where to keep what was seen so far after every batch, so that an interruption costs one batch at
            most. It is removed in the end.
        resume: Whether to go on from the checkpoint, if there is one.
        progress: Told of every image, and warned of images that turned out to be unusable.

    Raises:
        CalibrationError: A tensor is not in the graph or not float32, or the checkpoint is of another calibration.
        DataError: No image is usable, or they do not fit the model.
        RunError: The model failed.
    """
    skipped: list[tuple[str, str]] = []
    with open_collector(
        model,
        runtime=runtime,
        memory_budget=config.memory_budget,
        images_per_run=config.batch_size,
        tensors=config.tensors,
        per_channel=config.per_channel,
        sampling=config.sampling,
        image_size=None if dataset.spec is None else dataset.spec.input_size,
    ) as collector:
        start = take_up(checkpoint, _table(collector, dataset), resume=resume)
        collector.start_from(start)
        done = start.position or 0
        with (
            ahead(dataset.samples(collector.schedule.batch, signature=collector.signature, start=done)) as stream,
            progress.stage("Calibrating", len(dataset)) as advance,
        ):
            advance(done)
            for samples in stream:
                collector.take(samples.batch)
                skipped += samples.skipped
                if checkpoint is not None:
                    write_checkpoint(_table(collector, dataset, position=samples.position), checkpoint)
                advance(samples.position - done)
                done = samples.position
        table = _table(collector, dataset)
        if config.batch_size is not None and collector.one_by_one is not None:
            progress.warn(f"One image was run at a time, not {config.batch_size}: {collector.one_by_one}.")
    _check_seen(table, dataset, tuple(skipped), progress)
    if checkpoint is not None:
        remove_checkpoint(checkpoint)
    return table


def _table(collector: Collector, dataset: Dataset, *, position: int | None = None) -> CalibrationTable:
    table = collector.table(preprocess=dataset.spec, synthetic=dataset.synthetic)
    coverage = Coverage(dataset.listing, dataset.shards, (dataset.shard_index,))
    return replace(table, coverage=(coverage,), position=position)


def _check_seen(table: CalibrationTable, dataset: Dataset, skipped: Skipped, progress: Progress) -> None:
    if table.image_count == 0 and dataset.shards == 1:
        raise DataError(
            "There was no image to calibrate with.",
            found="; ".join(f"{name}: {reason}" for name, reason in (*dataset.skipped, *skipped)[:3]) or "no images",
            expected="one usable image or more",
        )
    warn_of_skipped(skipped, progress=progress)
