"""Has a cluster answer to the user's images: the same answers in the same order, to the bit, as one process gives.

    batches -> shards of a few -> worker: the model's answers, with digests of its input -> batches, in their order

Workers cut the images into the batches that would be run here. What images answer is compared here, batch by batch, so
sums are added up in one order only. Shards hold as many batches as their answers fit into :data:`SHARD_BYTES`, and two
for each thread of the cluster are under way, so memory does not depend on the number of images.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from linglos_deploy.backends.base import Runner
from linglos_deploy.backends.images_first import Found, ImagesFirstRunner, Places, images_first
from linglos_deploy.cluster import (
    SHARDS_PER_WORKER,
    Cluster,
    SharedImages,
    check_seen,
    results_in_order,
    shared_artifact,
)
from linglos_deploy.errors import DataError
from linglos_deploy.images.samples import Dataset
from linglos_deploy.parity.recording import Answer, Ask, ask_here
from linglos_deploy.signature import Batch, ModelSignature
from linglos_deploy.verbs.verdicts import Subject, open_subject, runtime_of

SHARD_BYTES = 32 << 20
"""What the answers of one shard may take."""


@dataclass(frozen=True, slots=True)
class ShardTask:
    """All that a worker needs to know.

    Attributes:
        subject: What answers; its paths are opened on the worker.
        images: What it answers to.
        first: Place of the first of them among all images.
        batch: Images of one run.
        signature: In whose form the images are given.
        threads: Threads of ONNX Runtime, 0 for the worker's choice.
        known: Where images lie in the outputs, known before any run.
        found: The same, found here.
    """

    subject: Subject
    images: SharedImages
    first: int
    batch: int
    signature: ModelSignature
    threads: int
    known: Places
    found: Found


@dataclass(frozen=True, slots=True)
class ShardAnswers:
    """What a model answered to one shard.

    Attributes:
        first: Place of its first image among all.
        batches: Digests of the samples of each batch, and the outputs.
    """

    first: int
    batches: tuple[tuple[tuple[str, ...], Batch], ...]

    @property
    def count(self) -> int:
        """How many images were answered to."""
        return sum(len(inputs) for inputs, _ in self.batches)


@dataclass(frozen=True, slots=True)
class ClusterImages:
    """Images that a cluster's workers see, too.

    Attributes:
        cluster: The connection.
        dataset: The images, opened here; workers take the same ones, in the same order.
        shared: How a worker opens them.
        batch: Images of one run.
        threads: Threads of ONNX Runtime on a worker, 0 for its own choice.
    """

    cluster: Cluster
    dataset: Dataset
    shared: SharedImages
    batch: int
    threads: int

    def asking(self, subject: Subject, signature: ModelSignature | None = None) -> Ask:
        """Return how a model's answers to these images come about.

        Args:
            subject: The model.
            signature: In whose form the images are given; that of its file if ``None``.
        """
        return functools.partial(self._ask, subject, signature or subject.graph.signature)

    def _ask(
        self, subject: Subject, signature: ModelSignature, runner: Runner, batches: Iterable[Batch]
    ) -> Iterator[Answer]:
        """Yield the answers; the first batch is run here, too, to see where images lie and how large answers are.

        Raises:
            LinglosError: A shard failed, for any reason that running the model can have.
            DataError: A worker answers to fewer images than there are.
        """
        assert isinstance(runner, ImagesFirstRunner)
        first = next(iter(batches), None)
        if first is None:
            return
        size = self._images_of_a_shard(sum(array.nbytes for array in runner.run(first).values()))
        starts = range(0, len(self.dataset), size)
        bare = _bare(subject)
        tasks = (
            ShardTask(
                bare,
                self.shared.part(start, start + size),
                start,
                self.batch,
                signature,
                self.threads,
                runner.known,
                runner.found,
            )
            for start in starts
        )
        shards = results_in_order(self.cluster, answer_shard, tasks, what="check")
        for start, shard in zip(starts, shards, strict=True):
            expected = min(size, len(self.dataset) - start)
            if (shard.first, shard.count) != (start, expected):
                raise DataError(
                    "A worker answered to other images than it was given.",
                    found=f"{shard.count} images from number {shard.first}",
                    expected=f"{expected} images from number {start}",
                    next_step="images that became unreadable since they were checked are left out; run the check again",
                )
            place = start
            for inputs, outputs in shard.batches:
                yield Answer(inputs, self._again(place, len(inputs), signature), functools.partial(dict, outputs))
                place += len(inputs)

    def _images_of_a_shard(self, batch_bytes: int) -> int:
        """Return a multiple of the batch: some shards for every worker, as far as their answers fit into memory."""
        batches = -(-len(self.dataset) // self.batch)
        fair = -(-batches // (self.cluster.workers * SHARDS_PER_WORKER))
        return self.batch * max(1, min(fair, SHARD_BYTES // max(batch_bytes, 1)))

    def _again(self, start: int, count: int, signature: ModelSignature) -> Callable[[], Batch]:
        """Return what makes a batch here, where it is wanted after all: to draw an image whose answer changed."""

        @functools.cache
        def make() -> Batch:
            return images_first(next(self.dataset.batches(count, signature=signature, start=start)), signature)

        return make


def answer_shard(task: ShardTask) -> ShardAnswers:
    """Run a model on one shard, on a worker.

    Raises:
        ArtifactError: The worker sees another graph or engine.
        DataError: The worker sees other images.
    """
    check_seen(task.subject.graph)
    dataset = task.images.open()
    batches = (images_first(batch, task.signature) for batch in dataset.batches(task.batch, signature=task.signature))
    runtime = runtime_of(task.subject, task.threads, task.known, task.found)
    with open_subject(task.subject, runtime) as runner:
        answers = tuple((answer.inputs, answer.outputs()) for answer in ask_here(runner, batches))
    return ShardAnswers(task.first, answers)


def _bare(subject: Subject) -> Subject:
    """Return a subject with no more than it takes to run it, its paths good in any working directory."""
    weights = subject.access.weights
    return Subject(
        shared_artifact(subject.graph),
        subject.precision,
        access=replace(subject.access, weights=None if weights is None else weights.absolute()),
    )
