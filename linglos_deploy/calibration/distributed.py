"""Spreads the shards of a calibration over a dask cluster: the same table, bit for bit, as one process gives.

Every worker must see the graph and the images at the same paths, on a shared disk or on copies; digests are checked. A
shard whose worker dies is given to another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linglos_deploy.artifacts import OnnxArtifact
from linglos_deploy.backends.base import Runtime
from linglos_deploy.calibration import container
from linglos_deploy.calibration.calibrate import DEFAULT, CalibrationConfig, calibrate
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.errors import ArtifactError, DataError, LinglosError, MissingDependencyError
from linglos_deploy.files import sha256_file
from linglos_deploy.graph.inputs import open_inputs
from linglos_deploy.images.dataset import ImageDataset
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.images.samples import Dataset
from linglos_deploy.images.tensors import TensorDataset
from linglos_deploy.progress import SILENT, Progress

if TYPE_CHECKING:
    from distributed import Client

SHARDS_PER_WORKER = 4
"""More shards than workers: a slow or lost worker holds up less."""


@dataclass(frozen=True, slots=True)
class ShardTask:
    """All that a worker needs to know.

    Attributes:
        model: The graph; its path is opened on the worker.
        data: Where the images are, on the worker.
        preprocess: How they become model input, ``None`` if they are arrays by input name.
        found: Digest of the names, sizes and first and last bytes that the worker must find there.
        selection: Which of the images there are this shard's.
        listing: Digest of the whole selection.
        index: Which shard, from 1.
        count: Of how many.
        runtime: Runs the graph; it is pickled.
        config: How to collect.
    """

    model: OnnxArtifact
    data: Path
    preprocess: PreprocessSpec | None
    found: str
    selection: tuple[int, ...]
    listing: str
    index: int
    count: int
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
    with _connected(address) as client:
        workers = len(client.scheduler_info(n_workers=-1)["workers"])
        count = min(len(dataset), shards or max(1, workers * SHARDS_PER_WORKER))
        if workers == 0:
            raise MissingDependencyError(
                f"The dask cluster at {address} has no workers.",
                next_step=f"dask worker {address}",
            )
        tasks = [shard_task(model, dataset, data, index, count, runtime, config) for index in range(1, count + 1)]
        return _merge_as_completed(client, tasks, progress)


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
    shard = dataset.shard(index, count)
    assert isinstance(shard, ImageDataset | TensorDataset)
    return ShardTask(
        model=model,
        data=data.absolute(),
        preprocess=dataset.spec,
        found=shard.source.listing,
        selection=shard.selection,
        listing=shard.listing,
        index=index,
        count=count,
        runtime=runtime,
        config=config,
    )


def run_shard(task: ShardTask) -> bytes:
    """Collect one shard, on a worker; return its table as bytes.

    Raises:
        ArtifactError: The worker sees another graph.
        DataError: The worker sees other images.
    """
    try:
        digest = sha256_file(task.model.path)
    except OSError as error:
        raise ArtifactError(f"A worker cannot read '{task.model.path}'.", found=error.strerror) from error
    if digest != task.model.digest:
        raise ArtifactError(
            f"A worker sees another graph at '{task.model.path}'.", found=digest[:12], expected=task.model.digest[:12]
        )
    dataset = open_inputs(task.data, task.model, task.preprocess, verify=False)
    assert isinstance(dataset, ImageDataset | TensorDataset)
    if dataset.source.listing != task.found:
        raise DataError(
            f"A worker sees other images at '{task.data}'.",
            found=f"{len(dataset)} images, listing {dataset.source.listing[:12]}",
            expected=f"listing {task.found[:12]}",
            next_step="let all workers read the same shared folder",
        )
    shard = replace(dataset, selection=task.selection, listing=task.listing, shards=task.count, shard_index=task.index)
    return container.encode(calibrate(task.model, shard, runtime=task.runtime, config=task.config))


def _merge_as_completed(client: Client, tasks: list[ShardTask], progress: Progress) -> CalibrationTable:
    from distributed import as_completed

    merged: CalibrationTable | None = None
    futures = client.map(run_shard, tasks, pure=False)
    with progress.stage("Calibrating shards", len(tasks)) as advance:
        for future in as_completed(futures, loop=client.loop):
            if future.status != "finished":
                error = future.exception()
                client.cancel(futures)
                raise _shard_error(error)
            table = container.decode(future.result(), source="shard")
            merged = table if merged is None else merged.merge(table)
            future.release()
            advance()
    if merged is None or merged.image_count == 0:
        raise DataError("There was no image to calibrate with.", expected="one usable image or more")
    return merged


def _shard_error(error: Any) -> BaseException:
    if isinstance(error, LinglosError):
        return error
    return DataError("A shard of the calibration failed on the cluster.", found=f"{type(error).__name__}: {error}")


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingDependencyError(
            "dask.distributed is not installed.", found=str(error), next_step="pip install 'linglos-deploy[dask]'"
        ) from error
    try:
        client = Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise MissingDependencyError(
            f"There is no dask scheduler at '{address}'.",
            found=str(error).splitlines()[0],
            expected="the address of a running scheduler, such as tcp://10.0.0.1:8786",
            next_step="dask scheduler",
        ) from error
    with client:
        yield client
