"""A dask cluster whose workers see the same files at the same paths: connecting, what a worker checks, errors.

Paths lead to a shared disk or to copies; digests are checked. A shard whose worker dies is given to another one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from linglos_deploy.artifacts import EngineArtifact, OnnxArtifact
from linglos_deploy.errors import ArtifactError, DataError, LinglosError, MissingDependencyError
from linglos_deploy.files import sha256_file
from linglos_deploy.graph.inputs import open_inputs
from linglos_deploy.images.dataset import ImageDataset
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.images.samples import Dataset
from linglos_deploy.images.tensors import TensorDataset

if TYPE_CHECKING:
    from distributed import Client, Future

SHARDS_PER_WORKER = 4
"""More shards than workers: a slow or lost worker holds up less."""

T = TypeVar("T")
R = TypeVar("R")
A = TypeVar("A", bound=OnnxArtifact | EngineArtifact)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A connection.

    Attributes:
        client: Of dask.
        workers: How many there were when it was made.
        threads: Of all of them together: how many shards are worked on at the same time.
    """

    client: Client
    workers: int
    threads: int


@contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """Connect to a scheduler.

    Args:
        address: Such as ``tcp://10.0.0.1:8786``.

    Raises:
        MissingDependencyError: dask.distributed is not installed, or the cluster cannot be reached or has no worker.
    """
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
        workers = client.scheduler_info(n_workers=-1)["workers"]
        if not workers:
            raise MissingDependencyError(
                f"The dask cluster at {address} has no workers.", next_step=f"dask worker {address}"
            )
        yield Cluster(client, len(workers), sum(worker["nthreads"] for worker in workers.values()))


def results_in_order(cluster: Cluster, work: Callable[[T], R], tasks: Iterable[T], *, what: str) -> Iterator[R]:
    """Yield ``work(task)`` of each task in their order, with at most two per thread of the cluster under way or kept.

    Args:
        cluster: Where they run.
        work: What a worker does; must be importable there.
        tasks: What it is given.
        what: What errors call the whole, such as ``"calibration"``.

    Raises:
        LinglosError: A shard failed.
    """
    waiting: deque[Future] = deque()
    try:
        for task in tasks:
            waiting.append(cluster.client.submit(work, task, pure=False))
            if len(waiting) >= 2 * cluster.threads:
                yield _result(waiting.popleft(), what)
        while waiting:
            yield _result(waiting.popleft(), what)
    finally:
        cluster.client.cancel([*waiting])


def shard_error(error: BaseException | None, what: str) -> BaseException:
    """Return what to raise for a shard that failed: our own errors as they are, others with what they were part of."""
    if isinstance(error, LinglosError):
        return error
    return DataError(
        f"A shard of the {what} failed on the cluster.",
        found=f"{type(error).__name__}: {error}",
        next_step="look at the log of the workers; linglos-deploy and all it needs must be installed there, too",
    )


@dataclass(frozen=True, slots=True)
class SharedImages:
    """Images that every worker opens for itself, and that must be the same there.

    Attributes:
        data: Where they are, on the worker.
        graph: What they feed.
        preprocess: How they become its input, ``None`` if they are arrays by input name.
        found: Digest of the names, sizes and first and last bytes that the worker must find there.
        selection: Which of the images there take part, and in which order.
        listing: Digest of the whole selection, before any split into shards.
        shards: Number of shards that it was split into.
        shard_index: Which of them this is, from 1.
    """

    data: Path
    graph: OnnxArtifact
    preprocess: PreprocessSpec | None
    found: str
    selection: tuple[int, ...]
    listing: str
    shards: int = 1
    shard_index: int = 1

    @classmethod
    def of(cls, dataset: Dataset, data: Path, graph: OnnxArtifact) -> SharedImages:
        """Return what a worker needs to know of images that were opened here."""
        assert isinstance(dataset, ImageDataset | TensorDataset)
        return cls(
            data=data.absolute(),
            graph=shared_artifact(graph),
            preprocess=dataset.spec,
            found=dataset.source.listing,
            selection=dataset.selection,
            listing=dataset.listing,
            shards=dataset.shards,
            shard_index=dataset.shard_index,
        )

    def part(self, start: int, stop: int) -> SharedImages:
        """Return the images from place ``start`` to before ``stop``."""
        return replace(self, selection=self.selection[start:stop])

    def open(self) -> ImageDataset | TensorDataset:
        """Open them, on a worker.

        Raises:
            ArtifactError: The worker sees another graph, or none.
            DataError: The worker sees other images, or none.
        """
        check_seen(self.graph)
        if not self.data.exists():
            raise DataError(
                f"A worker cannot read '{self.data}'.",
                found="nothing there",
                expected="the images at the same path as here",
                next_step="let all workers read the same shared folder",
            )
        dataset = open_inputs(self.data, self.graph, self.preprocess, verify=False)
        assert isinstance(dataset, ImageDataset | TensorDataset)
        if dataset.source.listing != self.found:
            raise DataError(
                f"A worker sees other images at '{self.data}'.",
                found=f"{len(dataset)} images, listing {dataset.source.listing[:12]}",
                expected=f"listing {self.found[:12]}",
                next_step="let all workers read the same shared folder",
            )
        return replace(
            dataset,
            selection=self.selection,
            listing=self.listing,
            shards=self.shards,
            shard_index=self.shard_index,
        )


def shared_artifact(artifact: A) -> A:
    """Return an artifact whose path leads to it from any working directory."""
    return replace(artifact, path=artifact.path.absolute())


def check_seen(artifact: OnnxArtifact | EngineArtifact) -> None:
    """Check, on a worker, that it sees the artifact that was meant.

    Raises:
        ArtifactError: It sees none, or another one.
    """
    kind = "graph" if isinstance(artifact, OnnxArtifact) else "engine"
    try:
        digest = sha256_file(artifact.path)
    except OSError as error:
        raise ArtifactError(
            f"A worker cannot read '{artifact.path}'.",
            found=error.strerror,
            expected=f"the {kind} at the same path as here",
            next_step="put it where all workers read it",
        ) from error
    if digest != artifact.digest:
        raise ArtifactError(
            f"A worker sees another {kind} at '{artifact.path}'.", found=digest[:12], expected=artifact.digest[:12]
        )


def _result(future: Future, what: str) -> R:  # type: ignore[type-var]
    try:
        result: R = future.result()
    except Exception as error:  # whatever a worker raised
        raise shard_error(error, what) from error
    future.release()
    return result
