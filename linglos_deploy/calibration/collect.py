"""One pass over batches: run the graph, and take in what flows into its convolutions and linear layers.

Memory does not grow with the number of images: every worker fetches the activations of its runs into the same buffers,
and a histogram has a fixed number of bins. While the activations of one worker are counted, another one runs; all
statistics are sums that come out the same in any order, so it does not matter who is first.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from linglos_deploy.artifacts import OnnxArtifact, load_onnx, onnx_signature, tool_versions
from linglos_deploy.backends.base import Runner, Runtime, SharedRuntime
from linglos_deploy.calibration.observers import TensorObserver
from linglos_deploy.calibration.probe import activation_bytes, activation_probe
from linglos_deploy.calibration.sampling import EVERYTHING, Sampling
from linglos_deploy.calibration.schedule import Schedule, schedule_for
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.calibration.targets import quantizable_activations
from linglos_deploy.errors import CalibrationError
from linglos_deploy.images.digests import as_hex, combine, image_digest
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.signature import Batch, ModelSignature

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOOLS = ("linglos-deploy", "numpy", "onnxruntime", "pillow")
"""What could change the numbers of a table."""


@contextmanager
def open_collector(
    model: OnnxArtifact,
    *,
    runtime: Runtime,
    memory_budget: int,
    images_per_run: int | None = None,
    tensors: Sequence[str] | None = None,
    per_channel: bool = False,
    sampling: Sampling = EVERYTHING,
    image_size: tuple[int, int] | None = None,
) -> Iterator[Collector]:
    """Open a model so that it shows its activations.

    Args:
        model: A float32 graph.
        runtime: Runs it. One that reuses its output buffers saves most of the time that fetching costs, and a
            :class:`~linglos_deploy.backends.base.SharedRuntime` is shared out among several workers.
        memory_budget: Bytes that activations may take.
        images_per_run: Images of one run, instead of what the budget allows.
        tensors: What to observe; the data inputs of all convolutions and linear layers if ``None``.
        per_channel: Whether to keep ranges and moments per channel.
        sampling: Which elements histograms and moments cover.
        image_size: Height and width of the images, for graphs that take any.

    Raises:
        CalibrationError: A tensor is not in the graph or not float32.
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
        schedule = schedule_for(
            memory_budget,
            bytes_per_image=activation_bytes(probe),
            fixed=signature.inputs[0].dims[0],
            cores=runtime.cores if isinstance(runtime, SharedRuntime) else 1,
            images=images_per_run,
        )
        shared = runtime.shared_by(schedule.workers) if isinstance(runtime, SharedRuntime) else runtime
        with shared.open(probe) as runner:
            _give_back_freed_memory()
            collector = Collector(model, runner, observers, sampling, signature, schedule)
            try:
                yield collector
            finally:
                collector.close()


class Collector:
    """Takes in batches; made by :func:`open_collector`.

    Args:
        model: The graph.
        runner: Its opened probe.
        observers: One per tensor.
        sampling: As in the observers.
        signature: Inputs of the graph.
        schedule: How a batch is spread over threads.
    """

    def __init__(
        self,
        model: OnnxArtifact,
        runner: Runner,
        observers: Mapping[str, TensorObserver],
        sampling: Sampling,
        signature: ModelSignature,
        schedule: Schedule,
    ) -> None:
        self.signature = signature
        self.schedule = schedule
        self._model = model
        self._runner = runner
        self._observers = dict(observers)
        self._locks = {name: threading.Lock() for name in observers}
        self._sampling = sampling
        self._digest = 0
        self._images = 0
        self._synthetic = False
        self._running: deque[Future[int]] = deque()
        self._workers = ThreadPoolExecutor(schedule.workers, thread_name_prefix="calibrate")
        self._counters = ThreadPoolExecutor(schedule.counters, thread_name_prefix="count")

    def start_from(self, table: CalibrationTable) -> None:
        """Take over what was seen before, instead of what was seen so far."""
        for name, observer in self._observers.items():
            observer.start_from(table.tensors[name])
        self._digest = int(table.data_digest, 16)
        self._images = table.image_count
        self._synthetic = table.synthetic

    def take(self, batch: Batch) -> int:
        """Take in one batch and return its number of images.

        Its last runs go on in the background; :meth:`table` waits for them. Their errors are raised by the next call.
        """
        count = len(next(iter(batch.values())))
        size = self.schedule.images
        for start in range(0, count, size):
            part = {name: array[start : start + size] for name, array in batch.items()}
            self._running.append(self._workers.submit(self._take_run, part))
            self._wait(left=self.schedule.workers)
        self._images += count
        return count

    def table(self, *, preprocess: PreprocessSpec | None = None, synthetic: bool = False) -> CalibrationTable:
        """Return what was seen so far, once all runs are through."""
        self._wait(left=0)
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
        self._workers.shutdown(cancel_futures=True)
        self._counters.shutdown(cancel_futures=True)

    def _wait(self, *, left: int) -> None:
        """Wait until no more than ``left`` runs are under way."""
        while len(self._running) > left:
            self._digest = combine(self._digest, self._running.popleft().result())

    def _take_run(self, part: Batch) -> int:
        """Run a part of a batch, take in its activations and return the digest of its images."""
        count = len(next(iter(part.values())))
        outputs = self._runner.run(self._filled_up(part, count))
        values = {name: (outputs[name] if name in outputs else part[name])[:count] for name in self._observers}
        order = sorted(values, key=lambda name: -values[name].size)
        shares = [order[first :: self.schedule.counters] for first in range(self.schedule.counters)]
        counted = [self._counters.submit(self._observe, share, values) for share in shares]
        digest = combine(*(image_digest(row) for array in part.values() for row in array))
        for done in counted:
            done.result()
        return digest

    def _observe(self, names: Sequence[str], values: Mapping[str, NDArray[np.float32]]) -> None:
        for name in names:
            with self._locks[name]:
                self._observers[name].update(values[name])

    def _filled_up(self, batch: Batch, count: int) -> Batch:
        """Repeat the last image where the graph has a fixed batch size and the last batch is shorter."""
        full = self.signature.inputs[0].dims[0]
        if not isinstance(full, int) or count >= full:
            return batch
        return {name: _repeat_last(array, full) for name, array in batch.items()}


def _give_back_freed_memory() -> None:
    """Hand back to the system what copies of the graph took: glibc keeps it, three times the weights, until asked."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _repeat_last(array: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])
