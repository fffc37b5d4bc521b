"""One pass over batches: run the graph, and take in what flows into its convolutions and linear layers.

Memory does not grow with the number of images: activations are fetched one batch at a time into the same buffers, and a
histogram has a fixed number of bins.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.artifacts import OnnxArtifact, load_onnx, onnx_signature, tool_versions
from linglos_deploy.backends.base import Runner, Runtime
from linglos_deploy.calibration.digests import as_hex, combine, image_digest
from linglos_deploy.calibration.observers import TensorObserver
from linglos_deploy.calibration.probe import activation_bytes, activation_probe
from linglos_deploy.calibration.sampling import EVERYTHING, Sampling
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.calibration.targets import quantizable_activations
from linglos_deploy.errors import CalibrationError, DataError
from linglos_deploy.preprocessing import PreprocessSpec
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.signature import Batch, ModelSignature

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOOLS = ("linglos-deploy", "numpy", "onnxruntime", "pillow")
"""What could change the numbers of a table."""


def collect(
    model: OnnxArtifact,
    batches: Iterable[Batch],
    *,
    runtime: Runtime,
    tensors: Sequence[str] | None = None,
    preprocess: PreprocessSpec | None = None,
    synthetic: bool = False,
    per_channel: bool = False,
    sampling: Sampling = EVERYTHING,
    progress: Progress = SILENT,
) -> CalibrationTable:
    """Run every batch once and return the statistics of what was seen.

    :func:`linglos_deploy.calibration.calibrate.calibrate` does the same for a dataset, with batches that fit into
    memory, checkpoints and shards.

    Args:
        model: A float32 graph.
        batches: Its inputs.
        runtime: Runs it; one that reuses its output buffers saves most of the time that fetching costs.
        tensors: What to observe; the data inputs of all convolutions and linear layers if ``None``.
        preprocess: How images became these inputs, to be recorded.
        synthetic: Whether the images are made up, to be recorded.
        per_channel: Whether to keep ranges and moments per channel, too.
        sampling: Which elements histograms and moments cover.
        progress: Told of every image.

    Raises:
        CalibrationError: A tensor is not in the graph or not float32.
        DataError: There was no image, or a batch does not fit the model.
        RunError: The model failed.
    """
    with open_collector(
        model, runtime=runtime, tensors=tensors, per_channel=per_channel, sampling=sampling
    ) as collector:
        with progress.stage("Calibrating") as advance:
            for batch in batches:
                advance(collector.take(batch))
        table = collector.table(preprocess=preprocess, synthetic=synthetic)
    if table.image_count == 0:
        raise DataError("There was no image to calibrate with.", expected="one image or more")
    return table


@contextmanager
def open_collector(
    model: OnnxArtifact,
    *,
    runtime: Runtime,
    tensors: Sequence[str] | None = None,
    per_channel: bool = False,
    sampling: Sampling = EVERYTHING,
    image_size: tuple[int, int] | None = None,
) -> Iterator[Collector]:
    """Open a model so that it shows its activations; arguments as for :func:`collect`.

    Args:
        model: A float32 graph.
        runtime: Runs it.
        tensors: What to observe.
        per_channel: Whether to keep ranges and moments per channel.
        sampling: Which elements histograms and moments cover.
        image_size: Height and width of the images, for graphs that take any.
    """
    proto = load_onnx(model.path)
    wanted = tuple(dict.fromkeys(tensors)) if tensors is not None else quantizable_activations(proto)
    if not wanted:
        raise CalibrationError(
            f"'{model.path.name}' has nothing to calibrate.",
            found="no convolution or linear layer with a constant weight",
            expected="a float32 graph with one or more",
        )
    observers = {name: TensorObserver(name, per_channel=per_channel, sampling=sampling) for name in wanted}
    with TemporaryDirectory(prefix="linglos-calibrate-") as folder:
        probe = activation_probe(proto, wanted, out=Path(folder) / "probe.onnx", image_size=image_size)
        signature = onnx_signature(proto)
        del proto  # as large as the weights
        with runtime.open(probe) as runner:
            collector = Collector(model, runner, observers, sampling, signature, activation_bytes(probe))
            try:
                yield collector
            finally:
                collector.close()


class Collector:
    """Takes in batches; made by :func:`open_collector`.

    The statistics of a batch are computed between two runs, on all cores, one tensor per task. Doing so during the next
    run could not be faster, because a run keeps the cores busy, and would take a second set of buffers
    (docs/decisions/calibration.md).

    Args:
        model: The graph.
        runner: Its opened probe.
        observers: One per tensor.
        sampling: As in the observers.
        signature: Inputs of the graph.
        bytes_per_image: Bytes of all activations of an image.
    """

    def __init__(
        self,
        model: OnnxArtifact,
        runner: Runner,
        observers: Mapping[str, TensorObserver],
        sampling: Sampling,
        signature: ModelSignature,
        bytes_per_image: int,
    ) -> None:
        self.signature = signature
        self.bytes_per_image = bytes_per_image
        self._model = model
        self._runner = runner
        self._observers = dict(observers)
        self._sampling = sampling
        self._digest = 0
        self._images = 0
        self._synthetic = False
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="observe")

    def start_from(self, table: CalibrationTable) -> None:
        """Take over what was seen before, instead of what was seen so far."""
        for name, observer in self._observers.items():
            observer.start_from(table.tensors[name])
        self._digest = int(table.data_digest, 16)
        self._images = table.image_count
        self._synthetic = table.synthetic

    def take(self, batch: Batch) -> int:
        """Run one batch, take in its activations and return its number of images."""
        count = len(next(iter(batch.values())))
        if count == 0:
            return 0
        outputs = self._runner.run(self._filled_up(batch, count))
        values = {name: (outputs[name] if name in outputs else batch[name])[:count] for name in self._observers}
        largest_first = sorted(values, key=lambda name: -values[name].size)
        work = [self._pool.submit(self._observers[name].update, values[name]) for name in largest_first]
        digests = [self._pool.submit(image_digest, row) for array in batch.values() for row in array]
        for future in work:
            future.result()
        self._digest = combine(self._digest, *(digest.result() for digest in digests))
        self._images += count
        return count

    def table(self, *, preprocess: PreprocessSpec | None = None, synthetic: bool = False) -> CalibrationTable:
        """Return what was seen so far."""
        return CalibrationTable(
            tensors={name: observer.statistics() for name, observer in self._observers.items()},
            graph_digest=self._model.digest,
            preprocess=preprocess,
            data_digest=as_hex(self._digest),
            image_count=self._images,
            synthetic=synthetic or self._synthetic,
            sampling=self._sampling,
            tools=tool_versions(*TOOLS),
        )

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _filled_up(self, batch: Batch, count: int) -> Batch:
        """Repeat the last image where the graph has a fixed batch size and the last batch is shorter."""
        full = self.signature.inputs[0].shape[0]
        if not isinstance(full, int) or count >= full:
            return batch
        return {name: _repeat_last(array, full) for name, array in batch.items()}


def _repeat_last(array: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])
