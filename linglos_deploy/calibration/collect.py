"""One pass over the images: run the graph, and take in what flows into its convolutions and linear layers.

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

from linglos_deploy.artifacts import OnnxArtifact, load_onnx, tool_versions
from linglos_deploy.backends.base import Runner, Runtime
from linglos_deploy.calibration.digests import as_hex, combine, image_digest
from linglos_deploy.calibration.observers import TensorObserver
from linglos_deploy.calibration.probe import activation_probe
from linglos_deploy.calibration.sampling import EVERYTHING, Sampling
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.calibration.targets import quantizable_activations
from linglos_deploy.errors import CalibrationError, DataError
from linglos_deploy.preprocessing import PreprocessSpec
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.signature import Batch

TOOLS = ("linglos-deploy", "numpy", "onnxruntime", "pillow")


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
        CalibrationError: A tensor is not in the graph or not float32, or there was no image.
        DataError: A batch does not fit the model.
        RunError: The model failed.
    """
    with open_collector(
        model, runtime=runtime, tensors=tensors, per_channel=per_channel, sampling=sampling
    ) as collector:
        with progress.stage("Calibrating") as advance:
            for batch in batches:
                collector.take(batch)
                advance(len(next(iter(batch.values()))))
        table = collector.table(preprocess=preprocess, synthetic=synthetic)
    if table.image_count == 0:
        raise DataError("There was no image to calibrate with.", expected="one image or more")
    return table


class Collector:
    """Takes in batches; see :func:`open_collector`."""

    def __init__(
        self,
        model: OnnxArtifact,
        runner: Runner,
        observers: Mapping[str, TensorObserver],
        sampling: Sampling,
        start: CalibrationTable | None = None,
    ) -> None:
        self._model = model
        self._runner = runner
        self._observers = dict(observers)
        self._sampling = sampling
        self._digest = 0 if start is None else int(start.data_digest, 16)
        self._images = 0 if start is None else start.image_count
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="observe")

    def take(self, batch: Batch) -> None:
        """Run one batch and take in its activations."""
        outputs = self._runner.run(batch)
        values = {name: outputs[name] if name in outputs else batch[name] for name in self._observers}
        largest_first = sorted(values, key=lambda name: -values[name].size)
        work = [self._pool.submit(self._observers[name].update, values[name]) for name in largest_first]
        rows = [self._pool.submit(image_digest, row) for array in batch.values() for row in array]
        for future in work:
            future.result()
        self._digest = combine(self._digest, *(row.result() for row in rows))
        self._images += len(next(iter(batch.values())))

    def table(self, *, preprocess: PreprocessSpec | None = None, synthetic: bool = False) -> CalibrationTable:
        """Return what was seen so far."""
        return CalibrationTable(
            tensors={name: observer.statistics() for name, observer in self._observers.items()},
            graph_digest=self._model.digest,
            preprocess=preprocess,
            data_digest=as_hex(self._digest),
            image_count=self._images,
            synthetic=synthetic,
            sampling=self._sampling,
            tools=tool_versions(*TOOLS),
        )

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)


@contextmanager
def open_collector(
    model: OnnxArtifact,
    *,
    runtime: Runtime,
    tensors: Sequence[str] | None = None,
    per_channel: bool = False,
    sampling: Sampling = EVERYTHING,
) -> Iterator[Collector]:
    """Open a model so that it shows its activations."""
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
        probe = activation_probe(proto, wanted, out=Path(folder) / model.path.name)
        with runtime.open(probe) as runner:
            collector = Collector(model, runner, observers, sampling)
            try:
                yield collector
            finally:
                collector.close()
