"""A cluster of two worker processes on this machine, and one that is no cluster at all."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from linglos_deploy.cluster import Cluster


@contextmanager
def two_workers() -> Iterator[Any]:
    """Start a scheduler and two worker processes of one thread each."""
    import dask
    from distributed import LocalCluster

    with (
        dask.config.set({"distributed.logging.distributed": "critical"}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            host="127.0.0.1",
            silence_logs=50,
        ) as cluster,
    ):
        yield cluster


@dataclass
class HereFuture:
    """Work that is done when its result is asked for; all that goes in and out is pickled, as on the way to a worker.

    Attributes:
        client: Who was given it.
        work: The work.
    """

    client: HereClient
    work: bytes

    def result(self) -> Any:
        work, task = pickle.loads(self.work)
        return pickle.loads(pickle.dumps(work(task)))

    def release(self) -> None:
        self.client.kept -= 1


@dataclass
class HereClient:
    """What a client of dask offers to a check, without a cluster.

    Attributes:
        kept: How many tasks are waiting, under way or kept.
        most: How many these were at most.
        submitted: How many there were at all.
        cancelled: How many were cancelled.
    """

    kept: int = 0
    most: int = 0
    submitted: int = 0
    cancelled: list[Any] = field(default_factory=list)

    def submit(self, work: Callable[[Any], Any], task: Any, *, pure: bool) -> HereFuture:
        assert not pure  # the same task twice is two tasks
        self.submitted += 1
        self.kept += 1
        self.most = max(self.most, self.kept)
        return HereFuture(self, pickle.dumps((work, task)))

    def cancel(self, futures: list[Any]) -> None:
        self.cancelled += futures


def here(*, workers: int = 2) -> tuple[HereClient, Cluster]:
    """Return a cluster whose workers are this process."""
    client = HereClient()
    return client, Cluster(client, workers, workers)  # type: ignore[arg-type]
