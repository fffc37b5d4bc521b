"""A local dask cluster gives the same table as one process; a worker that dies costs time only."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace

import pytest

from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.calibration import container
from linglos_deploy.calibration.calibrate import calibrate
from linglos_deploy.calibration.distributed import calibrate_distributed, run_shard, shard_task
from linglos_deploy.errors import ArtifactError, DataError, MissingDependencyError
from linglos_deploy.images.dataset import open_dataset
from tests.calibration.graphs import RUNTIME, SPEC, small_graph, write_images
from tests.cluster import two_workers

pytest.importorskip("distributed", reason="needs dask: pip install 'linglos-deploy[dask]'")


class SlowRuntime:
    """Takes its time, so that a worker can be killed in the middle of a shard."""

    name = "slow"

    def open(self, artifact, **options):
        time.sleep(0.4)
        return OnnxRuntime(threads=1).open(artifact, **options)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    write_images(folder / "images", 12)
    model = small_graph(folder / "small.onnx")
    dataset = open_dataset(folder / "images", SPEC)
    return folder / "images", model, calibrate(model, dataset, runtime=RUNTIME)


@pytest.fixture(scope="module")
def cluster():
    with two_workers() as cluster:
        yield cluster


def test_two_worker_processes_give_the_same_table(place, cluster):
    images, model, whole = place
    table = calibrate_distributed(
        model, open_dataset(images, SPEC), images, address=cluster.scheduler_address, runtime=RUNTIME, shards=5
    )
    assert table == whole
    assert container.encode(table) == container.encode(whole)


def test_a_damaged_image_does_not_change_which_images_a_cluster_takes(place, cluster, tmp_path):
    """What is usable is chosen from, on a cluster as in one process."""
    _, model, _ = place
    write_images(tmp_path, 12)
    broken = tmp_path / "005.png"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])  # only decoding shows it
    assert len(open_dataset(tmp_path, SPEC, verify=False)) == 12
    chosen = open_dataset(tmp_path, SPEC).limit(8, seed=3)
    assert len(chosen) == 8
    whole = calibrate(model, chosen, runtime=RUNTIME)
    table = calibrate_distributed(model, chosen, tmp_path, address=cluster.scheduler_address, runtime=RUNTIME, shards=3)
    assert table.image_count == 8
    assert table == whole


def test_a_failing_shard_raises_its_own_error(place, cluster):
    images, model, _ = place
    with pytest.raises(ArtifactError, match="another graph"):
        calibrate_distributed(
            replace(model, digest="0" * 64),
            open_dataset(images, SPEC),
            images,
            address=cluster.scheduler_address,
            runtime=RUNTIME,
        )


def test_a_worker_killed_half_way_costs_time_only(place, cluster):
    import threading

    images, model, whole = place
    victims = [worker.pid for worker in cluster.workers.values()]

    def kill_one():
        time.sleep(1.2)
        os.kill(victims[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    table = calibrate_distributed(
        model,
        open_dataset(images, SPEC),
        images,
        address=cluster.scheduler_address,
        runtime=SlowRuntime(),
        shards=12,
    )
    killer.join()
    assert table == whole


def test_a_worker_checks_what_it_sees(place, tmp_path):
    images, model, _ = place
    task = shard_task(model, open_dataset(images, SPEC), images, 1, 3, RUNTIME)
    assert container.decode(run_shard(task), source="x").image_count == 4
    with pytest.raises(DataError, match="other images"):
        run_shard(replace(task, images=replace(task.images, found="other")))
    with pytest.raises(ArtifactError, match="cannot read"):
        run_shard(replace(task, images=replace(task.images, graph=replace(model, path=tmp_path / "gone"))))
    with pytest.raises(DataError, match="cannot read"):
        run_shard(replace(task, images=replace(task.images, data=tmp_path / "gone")))


def test_a_cluster_that_is_not_there_is_an_error(place, monkeypatch):
    images, model, _ = place
    with pytest.raises(MissingDependencyError, match="no dask scheduler"):
        calibrate_distributed(model, open_dataset(images, SPEC), images, address="nonsense://x", runtime=RUNTIME)
    import sys

    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependencyError, match="not installed"):
        calibrate_distributed(model, open_dataset(images, SPEC), images, address="tcp://127.0.0.1:1", runtime=RUNTIME)
