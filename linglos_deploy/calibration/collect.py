"""One pass over batches: run the graph, and take in what flows into its convolutions and linear layers.

Memory does not grow with the number of images: every worker fetches the activations of its runs into the same buffers,
and a histogram has a fixed number of bins. While the activations of one worker are counted, another one runs; all
statistics are sums that come out the same in any order, so it does not matter who is first. Nor does it matter how many
images a run holds: see :mod:`.runs`.
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
from linglos_deploy.calibration.channels import channel_axes
from linglos_deploy.calibration.gains import Weighing, weighings
from linglos_deploy.calibration.observers import GroupedAxis, TensorObserver
from linglos_deploy.calibration.probe import activation_probe
from linglos_deploy.calibration.runs import ONE_BY_ONE, Runs, decide_runs
from linglos_deploy.calibration.sampling import EVERYTHING, Sampling
from linglos_deploy.calibration.schedule import Schedule, schedule_for
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.calibration.targets import rounded_tensors
from linglos_deploy.errors import CalibrationError
from linglos_deploy.graph.axes import InputAxes
from linglos_deploy.graph.topology import every_node
from linglos_deploy.images.digests import as_hex, combine, image_digest
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.signature import Batch, ModelSignature

if TYPE_CHECKING:
    import onnx
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
        tensors: What to observe; everything that :func:`~linglos_deploy.calibration.targets.rounded_tensors` names if
            ``None``.
        per_channel: Whether to keep ranges and moments per channel.
        sampling: Which elements histograms and moments cover.
        image_size: Height and width of the images, for graphs that take any.

    Raises:
        CalibrationError: A tensor is not in the graph or not float32.
    """
    proto = load_onnx(model.path)
    wanted = tuple(dict.fromkeys(tensors)) if tensors is not None else rounded_tensors(proto)
    if not wanted:
        raise CalibrationError(
            f"'{model.path.name}' has nothing to calibrate.",
            found="no convolution or linear layer with a constant weight" + _inside_control_flow(proto),
            expected="a float32 graph with one or more",
            next_step="leave it in floating point; profile and build take it as it is",
        )
    observers = _observers(proto, wanted, per_channel=per_channel, sampling=sampling)
    with TemporaryDirectory(prefix="linglos-calibrate-") as folder:
        probe = activation_probe(proto, wanted, out=Path(folder) / "probe.onnx", image_size=image_size)
        signature = onnx_signature(proto)
        del proto  # as large as the weights
        schedule = schedule_for(
            memory_budget,
            bytes_per_image=probe.bytes_per_image,
            fixed=probe.inputs.batch,
            cores=runtime.cores if isinstance(runtime, SharedRuntime) else 1,
            images=images_per_run,
        )
        shared = runtime.shared_by(schedule.workers) if isinstance(runtime, SharedRuntime) else runtime
        with shared.open(probe.graph) as runner:
            _give_back_freed_memory()
            collector = Collector(model, runner, observers, sampling, signature, probe.inputs, schedule)
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
        inputs: Where images lie in them.
        schedule: How a batch is spread over threads.
    """

    def __init__(
        self,
        model: OnnxArtifact,
        runner: Runner,
        observers: Mapping[str, TensorObserver],
        sampling: Sampling,
        signature: ModelSignature,
        inputs: InputAxes,
        schedule: Schedule,
    ) -> None:
        self.signature = signature
        self.schedule = schedule
        self._inputs = inputs
        self._runs: Runs | None = None
        self._model = model
        self._runner = runner
        self._observers = dict(observers)
        self._expected = dict.fromkeys(observers, 0)
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
            self._expected[name] = table.tensors[name].count
        self._digest = int(table.data_digest, 16)
        self._images = table.image_count
        self._synthetic = table.synthetic

    @property
    def one_by_one(self) -> str | None:
        """Why runs hold a single image where more were possible, if they do."""
        return None if self._runs is None else self._runs.reason

    def take(self, batch: Batch) -> int:
        """Take in one batch, in the graph's layout, and return its number of images.

        Its last runs go on in the background; :meth:`table` waits for them. Their errors are raised by the next call.

        Raises:
            CalibrationError: The graph has a fixed batch, and a tensor whose images cannot be told apart.
        """
        count = self._inputs.count(batch)
        fixed = self._inputs.batch is not None
        if self._runs is None and (fixed or count >= self.schedule.images):
            # In a worker, whose buffers the runs that follow use again.
            self._runs = self._workers.submit(self._decide, batch).result()
        runs = self._runs or ONE_BY_ONE
        for start, stop in _cut(count, runs.images, fill_up=fixed):
            part = self._inputs.part(batch, start, stop)
            how = runs if fixed or stop - start == runs.images else ONE_BY_ONE
            self._running.append(self._workers.submit(self._take_run, part, stop - start, how))
            self._wait(left=self.schedule.workers)
        self._images += count
        return count

    def table(self, *, preprocess: PreprocessSpec | None = None, synthetic: bool = False) -> CalibrationTable:
        """Return what was seen so far, once all runs are through."""
        self._wait(left=0)
        tensors = {name: observer.statistics() for name, observer in self._observers.items()}
        for name, stats in tensors.items():
            _check_count(name, stats.count, self._expected[name], self._images)
        return CalibrationTable(
            tensors=tensors,
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

    def _decide(self, batch: Batch) -> Runs | None:
        return decide_runs(self._tensors, batch, self._inputs, self.schedule.images)

    def _tensors(self, batch: Batch) -> dict[str, NDArray[np.float32]]:
        outputs = self._runner.run(batch)
        return {name: outputs[name] if name in outputs else batch[name] for name in self._observers}

    def _take_run(self, part: Batch, count: int, runs: Runs) -> int:
        """Run a part of a batch, take in its activations and return the digest of its images."""
        values = self._tensors(self._filled_up(part, count))
        order = sorted(values, key=lambda name: -values[name].size)
        shares = [order[first :: self.schedule.counters] for first in range(self.schedule.counters)]
        counted = [self._counters.submit(self._observe, share, values, count, runs) for share in shares]
        digest = combine(*(image_digest(array) for place in range(count) for array in self._inputs.image(part, place)))
        for done in counted:
            done.result()
        return digest

    def _observe(self, names: Sequence[str], values: Mapping[str, NDArray[np.float32]], count: int, runs: Runs) -> None:
        for name in names:
            images = runs.image_by_image(name, values[name], count)
            with self._locks[name]:
                self._observers[name].update(images)
                self._expected[name] += runs.expected_values(name, values[name], count)

    def _filled_up(self, part: Batch, count: int) -> Batch:
        """Repeat the last image where the graph has a fixed batch size and the last batch is shorter."""
        full = self._inputs.batch
        if full is None or count == full:
            return part
        return self._inputs.pick(part, [min(place, count - 1) for place in range(full)])


def _observers(
    model: onnx.ModelProto, tensors: Sequence[str], *, per_channel: bool, sampling: Sampling
) -> dict[str, TensorObserver]:
    axes: Mapping[str, int | None] = channel_axes(model, tensors) if per_channel else dict.fromkeys(tensors)
    weighed = weighings(model, tensors)
    return {
        name: TensorObserver(
            name,
            channel_axis=None if (axis := axes[name]) is None else _behind_images(axis),
            grouped=_grouped(weighed[name]),
            sampling=sampling,
        )
        for name in tensors
    }


def _grouped(weighing: Weighing | str) -> GroupedAxis | None:
    """Return the groups of a tensor whose channels are not all weighed alike."""
    if isinstance(weighing, str) or len(weighing.groups) == 1:
        return None
    return GroupedAxis(_behind_images(weighing.axis), weighing.groups)


def _behind_images(axis: int) -> int:
    """Return where an axis is once the images stand before all others."""
    return axis if axis < 0 else axis + 1


def _cut(count: int, size: int, *, fill_up: bool) -> Iterator[tuple[int, int]]:
    """Yield the runs of a batch. What is left over runs one by one: a batch of any other size was not tried."""
    whole = count - count % size
    yield from ((start, start + size) for start in range(0, whole, size))
    if fill_up and whole < count:
        yield whole, count
    elif not fill_up:
        yield from ((start, start + 1) for start in range(whole, count))


def _check_count(name: str, found: int, expected: int, images: int) -> None:
    if found != expected:
        raise CalibrationError(
            f"Not all values of tensor '{name}' were seen, or some were seen twice.",
            found=f"{found} values",
            expected=f"{expected}: the tensor's size per image, for {images} images",
            next_step="calibrate with --batch 1, and report this graph",
        )


def _inside_control_flow(model: onnx.ModelProto) -> str:
    inside = sum(1 for _ in every_node(model.graph)) - len(model.graph.node)
    return f"; {inside} nodes lie inside If, Loop or Scan, which stay in floating point" if inside else ""


def _give_back_freed_memory() -> None:
    """Hand back to the system what copies of the graph took: glibc keeps it, three times the weights, until asked."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
