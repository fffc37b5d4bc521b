"""A cluster answers to the images in shards; the report is the one that a single process writes, to the bit."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from linglos_deploy.artifacts import open_onnx
from linglos_deploy.backends.images_first import ImagesFirst, ImagesFirstRunner
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.choices import Precision
from linglos_deploy.cluster import Cluster, SharedImages, connected, results_in_order
from linglos_deploy.codec import to_json
from linglos_deploy.errors import ArtifactError, DataError, MissingDependencyError, UsageError
from linglos_deploy.exporters.precision import convert_precision
from linglos_deploy.images.dataset import ImageDataset, open_dataset
from linglos_deploy.images.options import PreprocessOptions
from linglos_deploy.reports.parity import ParityOutcome
from linglos_deploy.verbs import asking_cluster
from linglos_deploy.verbs.asking_cluster import ClusterImages, ShardTask, answer_shard
from linglos_deploy.verbs.check_parity import ParityRequest, check
from linglos_deploy.verbs.verdicts import Subject
from tests.calibration.graphs import SIZE, SPEC, small_graph, write_images
from tests.cluster import HereClient, here, two_workers
from tests.commandline import run
from tests.parity.test_output_axes import BATCHES, BODIES, graph, images
from tests.verbs.graphs import voice, voice_data

COUNT = 23
AS_IMAGES = PreprocessOptions(mean=(0.5,), std=(0.5,), input_size=(SIZE, SIZE))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, a graph, and one whose weights are a little different, so that some answers change."""
    folder = tmp_path_factory.mktemp("spread")
    write_images(folder / "images", COUNT)
    parent = small_graph(folder / "parent.onnx")
    model = onnx.load(parent.path)
    for weight in model.graph.initializer:
        if weight.name == "w3":
            values = numpy_helper.to_array(weight)
            noise = np.random.default_rng(3).standard_normal(values.shape).astype(np.float32)
            weight.CopyFrom(numpy_helper.from_array(values + 0.2 * noise, "w3"))
    onnx.save(model, folder / "other.onnx")
    convert_precision(parent, Precision.FP16, out=folder / "half.onnx")
    return folder


def outcome(place: Path, candidate: str = "other.onnx", **options: Any) -> ParityOutcome:
    request = ParityRequest(
        place / candidate,
        reference=place / "parent.onnx",
        data=place / "images",
        threads=1,
        batch=2,
        preprocess=AS_IMAGES,
        **options,
    )
    return check(request)


def spread(cluster: Cluster, place: Path, *, batch: int = 3) -> tuple[ClusterImages, Subject]:
    dataset = open_dataset(place / "images", SPEC)
    parent = open_onnx(place / "parent.onnx")
    shared = SharedImages.of(dataset, place / "images", parent)
    return ClusterImages(cluster, dataset, shared, batch, 1), Subject(parent, Precision.FP32)


def answers(images: ClusterImages, subject: Subject) -> list[tuple[tuple[str, ...], np.ndarray]]:
    """Return what a model answers on a cluster: digests of the input and the outputs, batch by batch."""
    with ImagesFirst(OnnxRuntime(threads=1)).open(open_onnx(subject.graph.path)) as runner:
        batches = images.dataset.batches(images.batch, signature=runner.signature)
        asked = images.asking(subject)(runner, batches)
        return [(answer.inputs, answer.outputs()["logits"]) for answer in asked]


def test_two_worker_processes_give_the_same_report_to_the_bit(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="needs dask: pip install 'linglos-deploy[dask]'")
    alone = to_json(outcome(place))
    with two_workers() as cluster:
        monkeypatch.chdir(place)  # workers stay where they were
        request = ParityRequest(
            Path("other.onnx"),
            reference=Path("parent.onnx"),
            data=Path("images"),
            threads=1,
            batch=2,
            preprocess=AS_IMAGES,
            dask=cluster.scheduler_address,
        )
        assert to_json(check(request)) == alone
        with connected(cluster.scheduler_address) as connection:
            images, subject = spread(connection, place)
            with pytest.raises(ArtifactError, match="A worker sees another graph"):
                answers(images, replace(subject, graph=replace(subject.graph, digest="0" * 64)))
            assert [*results_in_order(connection, slowly, range(7), what="check")] == [*range(7)]
            with pytest.raises(DataError, match="A shard of the check failed on the cluster") as caught:
                list(results_in_order(connection, broken, range(7), what="check"))
            assert caught.value.found == "ZeroDivisionError: shard 2"


def slowly(number: int) -> int:
    """Take the longer, the earlier."""
    time.sleep(0.05 * (7 - number))
    return number


def broken(number: int) -> int:
    """Fail for one of them."""
    if number == 2:
        raise ZeroDivisionError(f"shard {number}")
    return number


@pytest.mark.parametrize("candidate", ["parent.onnx", "other.onnx", "half.onnx"])
def test_a_report_does_not_depend_on_who_answers(place: Path, cluster_here: HereClient, candidate: str) -> None:
    alone = outcome(place, candidate)
    together = outcome(place, candidate, dask="tcp://here")
    assert cluster_here.submitted == 12  # shards of two batches, for the reference and for the candidate
    assert cluster_here.kept == 0
    assert to_json(together) == to_json(alone)
    if candidate == "other.onnx":
        flips = [flip for output in alone.reports[0].outputs for flip in output.flips if output.images == "data"]
        assert flips, "no answer changed, so no picture was compared"
        assert all(flip.picture for flip in flips)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("body", BODIES)
def test_images_lie_where_they_lie_in_one_process(
    tmp_path: Path, cluster_here: HereClient, body: str, batch: int | str
) -> None:
    def found(**options: Any) -> str | tuple[str, str | None]:
        request = ParityRequest(candidate, reference=reference, data=data, threads=1, batch=2, **options)
        try:
            return to_json(check(request))
        except DataError as error:
            return error.message, error.found

    reference = graph(tmp_path / "reference.onnx", BODIES[body], "batch")
    candidate = graph(tmp_path / "candidate.onnx", BODIES[body], batch)
    data = tmp_path / "data.npz"
    np.savez(data, x=images(7))
    assert found(dask="tcp://here") == found()


def test_a_worker_looks_for_images_where_the_reference_has_them(tmp_path: Path, cluster_here: HereClient) -> None:
    """The candidate mixes them up among its rows; alone, it would look as if it only had them elsewhere."""
    reference = graph(tmp_path / "reference.onnx", BODIES["tokens"], "batch")
    candidate = graph(tmp_path / "candidate.onnx", BODIES["positions"], "batch")
    data = tmp_path / "data.npz"
    np.savez(data, x=images(7))
    request = ParityRequest(candidate, reference=reference, data=data, threads=1, batch=2)
    alone = check(request)
    assert not alone.passed
    assert to_json(check(replace(request, dask="tcp://here"))) == to_json(alone)


def test_where_images_lie_is_found_once_for_all_workers(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    look = ImagesFirstRunner._look
    monkeypatch.setattr(ImagesFirstRunner, "_look", lambda self, layout: (looked.append(1), look(self, layout))[1])
    assert len(answers(*spread(here()[1], place))) == 8
    assert len(looked) == 1


def test_several_inputs_of_any_axes_are_spread(tmp_path: Path, cluster_here: HereClient) -> None:
    model, data = voice(tmp_path / "voice.onnx"), voice_data(tmp_path / "voice.npz")
    request = ParityRequest(model, reference=model, data=data, threads=1, images=20)
    assert to_json(check(replace(request, dask="tcp://here"))) == to_json(check(request))
    assert cluster_here.submitted == 6


@pytest.mark.parametrize(
    "wrong",
    [
        lambda tasks: [tasks[1], tasks[0], *tasks[2:]],
        lambda tasks: [*tasks[:2], *tasks[3:]],
        lambda tasks: [tasks[0], *tasks],
    ],
    ids=["in another order", "one left out", "one twice"],
)
def test_shards_that_are_not_those_that_were_asked_for_are_an_error(
    place: Path, monkeypatch: pytest.MonkeyPatch, wrong: Callable[[list[ShardTask]], list[ShardTask]]
) -> None:
    def confused(cluster: Cluster, work: Any, tasks: Any, *, what: str) -> Iterator[Any]:
        return map(work, wrong(list(tasks)))

    monkeypatch.setattr(asking_cluster, "results_in_order", confused)
    with pytest.raises(DataError, match="other images than it was given"):
        answers(*spread(here()[1], place))


def test_answers_come_in_the_order_and_the_batches_of_one_process(place: Path) -> None:
    for workers in (1, 2, 50):
        images, subject = spread(here(workers=workers)[1], place)
        found = answers(images, subject)
        with OnnxRuntime(threads=1).open(open_onnx(subject.graph.path)) as runner:
            expected = [runner.run(batch)["logits"].copy() for batch in images.dataset.batches(3)]
        assert [len(inputs) for inputs, _ in found] == [3, 3, 3, 3, 3, 3, 3, 2]
        for (_, seen), wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(seen, wanted)


def test_what_is_under_way_does_not_grow_with_the_images(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client, cluster = here()
    images, subject = spread(cluster, place, batch=1)
    assert len(answers(images, subject)) == COUNT
    assert (client.submitted, client.most) == (8, 4)  # three images each
    monkeypatch.setattr(asking_cluster, "SHARD_BYTES", 41)  # two answers of five float32
    assert len(answers(images, subject)) == COUNT
    assert (client.submitted - 8, client.most) == (12, 4)


def test_shards_that_nobody_waits_for_any_more_are_cancelled() -> None:
    client, cluster = here()
    results = results_in_order(cluster, broken, range(20), what="check")
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(DataError, match="ZeroDivisionError"):
        next(results)
    assert (client.submitted, len(client.cancelled)) == (6, 3)


def test_an_image_that_became_unreadable_is_an_error(tmp_path: Path, place: Path) -> None:
    write_images(tmp_path / "images", COUNT)
    (tmp_path / "parent.onnx").write_bytes((place / "parent.onnx").read_bytes())
    images, subject = spread(here()[1], tmp_path)
    assert isinstance(images.dataset, ImageDataset)
    broken = tmp_path / "images" / images.dataset.ids[7]
    data = bytearray(broken.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)  # sizes, first and last bytes are as they were
    broken.write_bytes(data)
    images = replace(images, shared=replace(images.shared, found=open_dataset(broken.parent, SPEC).source.listing))
    with pytest.raises(DataError, match="other images than it was given") as caught:
        answers(images, subject)
    assert caught.value.found == "2 images from number 6"


def test_a_worker_checks_what_it_sees(tmp_path: Path, place: Path) -> None:
    images, subject = spread(here()[1], place)
    task = ShardTask(subject, images.shared.part(3, 8), 3, 3, subject.graph.signature, 1, {}, {})
    assert [len(inputs) for inputs, _ in answer_shard(task).batches] == [3, 2]
    gone = tmp_path / "gone"
    with pytest.raises(ArtifactError, match="A worker cannot read"):
        answer_shard(replace(task, subject=replace(subject, graph=replace(subject.graph, path=gone))))
    with pytest.raises(ArtifactError, match="A worker sees another graph"):
        answer_shard(replace(task, subject=replace(subject, graph=replace(subject.graph, digest="0"))))
    with pytest.raises(DataError, match="A worker cannot read"):
        answer_shard(replace(task, images=replace(task.images, data=gone)))
    with pytest.raises(DataError, match="A worker sees other images"):
        answer_shard(replace(task, images=replace(task.images, found="other")))


def test_a_cluster_needs_images_dask_and_a_scheduler(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="images of --data"):
        ParityRequest(place / "other.onnx", reference=place / "parent.onnx", dask="tcp://here")
    command = ["parity", place / "other.onnx", "--reference", place / "parent.onnx", "--dask", "tcp://here"]
    run(*command).expect(2, "--dask without --data")
    pytest.importorskip("distributed", reason="needs dask: pip install 'linglos-deploy[dask]'")
    with pytest.raises(MissingDependencyError, match="no dask scheduler"):
        outcome(place, dask="nonsense://x")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependencyError, match="not installed"):
        outcome(place, dask="tcp://127.0.0.1:1")
