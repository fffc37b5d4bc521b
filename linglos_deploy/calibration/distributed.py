"""Spreads the shards of a calibration over a dask cluster: the same table, bit for bit, as one process gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from linglos_deploy.artifacts import OnnxArtifact
from linglos_deploy.backends.base import Runtime
from linglos_deploy.calibration import container
from linglos_deploy.calibration.calibrate import DEFAULT, CalibrationConfig, calibrate
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.cluster import SHARDS_PER_WORKER, Cluster, SharedImages, connected, shard_error
from linglos_deploy.errors import DataError
from linglos_deploy.images.samples import Dataset
from linglos_deploy.progress import SILENT, Progress


@dataclass(frozen=True, slots=True)
class ShardTask:
    """All that a worker needs to know.

    Attributes:
        images: The shard's images, and the graph that they feed.
        runtime: Runs the graph; it is pickled.
        config: How to collect.
    """

    images: SharedImages
    runtime: Runtime
    config: CalibrationConfig


def calibrate_distributed(
    model: OnnxArtifact,
    dataset: Dataset,
    data: Path,
    *,
    address: str,
    runtime: Runtime,
    config: CalibrationConfig = DEFAULT,
    shards: int | None = None,
    progress: Progress = SILENT,
) -> CalibrationTable:
    """Collect all shards on a cluster and merge them as they come in.

    Args:
        model: A float32 graph, at a path that all workers see.
        dataset: The images, opened here; workers take the same ones, whatever they might choose themselves.
        data: Where they are, a path that all workers see.
        address: Of the scheduler, such as ``tcp://10.0.0.1:8786``.
        runtime: Runs the graph on each worker.
        config: How to collect.
        shards: Number of shards; four per worker if ``None``.
        progress: Told of every shard.

    Raises:
        MissingDependencyError: dask.distributed is not installed, or the cluster cannot be reached or has no worker.
        LinglosError: A shard failed, for any reason that :func:`~.calibrate.calibrate` can have.
    """
    with connected(address) as cluster:
        count = min(len(dataset), shards or cluster.workers * SHARDS_PER_WORKER)
        tasks = [shard_task(model, dataset, data, index, count, runtime, config) for index in range(1, count + 1)]
        return _merge_as_completed(cluster, tasks, progress)


def shard_task(
    model: OnnxArtifact,
    dataset: Dataset,
    data: Path,
    index: int,
    count: int,
    runtime: Runtime,
    config: CalibrationConfig = DEFAULT,
) -> ShardTask:
    """Return what a worker needs to know of shard ``index``, from 1, of ``count``."""
    return ShardTask(SharedImages.of(dataset.shard(index, count), data, model), runtime, config)


def run_shard(task: ShardTask) -> bytes:
    """Collect one shard, on a worker; return its table as bytes.

    Raises:
        ArtifactError: The worker sees another graph.
        DataError: The worker sees other images.
    """
    images = task.images.open()
    return container.encode(calibrate(task.images.graph, images, runtime=task.runtime, config=task.config))


def _merge_as_completed(cluster: Cluster, tasks: list[ShardTask], progress: Progress) -> CalibrationTable:
    from distributed import as_completed

    client = cluster.client
    merged: CalibrationTable | None = None
    futures = client.map(run_shard, tasks, pure=False)
    with progress.stage("Calibrating shards", len(tasks)) as advance:
        for future in as_completed(futures, loop=client.loop):
            if future.status != "finished":
                error = future.exception()
                client.cancel(futures)
                raise shard_error(error, "calibration")
            table = container.decode(future.result(), source="shard")
            merged = table if merged is None else merged.merge(table)
            future.release()
            advance()
    if merged is None or merged.image_count == 0:
        raise DataError("There was no image to calibrate with.", expected="one usable image or more")
    return merged
