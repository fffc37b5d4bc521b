"""Engine -> runner: name-based I/O, buffers that are reused, one stream and one set of contexts per runner."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from linglos_deploy.backends.trt.cuda import Buffer, Cuda, Owner, owned
from linglos_deploy.backends.trt.flavour import Flavour, member
from linglos_deploy.backends.trt.log import Log, make_logger
from linglos_deploy.backends.trt.rtx_cache import runtime_config
from linglos_deploy.engines.record import EngineRecord
from linglos_deploy.engines.spec import ShapeRange
from linglos_deploy.errors import ArtifactError, DataError, RunError
from linglos_deploy.signature import Batch, ModelSignature, TensorSpec

GRAPHS = 4
"""Contexts that one runner keeps, each with scratch memory of its own; the least recently used goes first."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How engines are run.

    Attributes:
        cuda_graphs: Whether repeated shapes are launched as one recorded CUDA graph.
        allow_host_code: Whether version-compatible engines, which hold host code, may be loaded.
        weights: ONNX file that a weight-stripped engine takes its weights from.
        runtime_cache: File for the kernels that TensorRT-RTX compiles on this machine; ``None`` for none.
        quick_start: Whether TensorRT-RTX may answer with general kernels while it compiles those for the shapes at
            hand; not for what is checked or measured.
    """

    cuda_graphs: bool = True
    allow_host_code: bool = False
    weights: Path | None = None
    runtime_cache: Path | None = None
    quick_start: bool = False


@dataclass(slots=True)
class Session:
    """A deserialized engine, which any number of runners share.

    Attributes:
        module: The vendor's module.
        flavour: Which of the two it is.
        engine: The vendor's engine.
        record: Its sidecar.
        cuda: The device.
        log: What the vendor said; its tail explains failures.
        options: How to run.
        make_context: Creates an execution context.
    """

    module: Any
    flavour: Flavour
    engine: Any
    record: EngineRecord
    cuda: Cuda
    log: Log
    options: RunOptions
    make_context: Callable[[], Any]

    @contextmanager
    def runner(self) -> Iterator[EngineRunner]:
        """Open a runner with a stream of its own; runners of one session may run at the same time."""
        with owned() as owner:
            self.cuda.make_current()
            runner = EngineRunner(self, self.cuda.stream(owner), owner)
            owner.callback(self.cuda.synchronize, runner.stream)
            owner.callback(self.cuda.make_current)  # first: the thread that closes may be another one
            yield runner


@contextmanager
def open_session(
    module: Any, flavour: Flavour, plan: Path, record: EngineRecord, *, cuda: Cuda, options: RunOptions
) -> Iterator[Session]:
    """Deserialize a plan that has passed preflight.

    Raises:
        ArtifactError: The runtime refuses the plan, or its weights are missing.
        MissingDependencyError: There is no such GPU.
    """
    cuda.select()  # first: without a usable driver, creating a runtime is not safe
    log = Log()
    logger = make_logger(module, log)
    runtime = module.Runtime(logger)
    data = plan.read_bytes()
    _ask_vendor(module, runtime, data, plan)
    if record.host_code:
        runtime.engine_host_code_allowed = options.allow_host_code
    engine = runtime.deserialize_cuda_engine(data)
    del data
    if engine is None:
        raise ArtifactError(f"{flavour.title} refuses the engine '{plan}'.", found=log.tail())
    if record.spec.strip_weights:
        _fill_in_weights(module, engine, options.weights, logger=logger, log=log, plan=plan)
    if record.spec.weight_streaming:
        _set_streaming_budget(engine, log)
    with _contexts(module, flavour, engine, options) as make_context:
        yield Session(module, flavour, engine, record, cuda, log, options, make_context)


Key = tuple[tuple[int, ...], ...]
"""Shapes of all inputs, in graph order."""


@dataclass(slots=True)
class _Context:
    """An execution context, what it was told, and the graph that was recorded of it.

    A recorded graph holds the addresses and the shapes of its recording, and the context's scratch memory. So a context
    that was recorded is used for one combination of shapes, and its graph goes when an address changes.
    """

    handle: Any
    profile: int
    key: Key | None = None
    outputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    addresses: tuple[int, ...] = ()
    graph: Any = None


@dataclass(slots=True)
class EngineRunner:
    """Runs batches on one stream, from one thread at a time, which need not be the same one every time."""

    session: Session
    stream: int
    owner: Owner
    buffers: dict[str, Buffer] = field(default_factory=dict)
    allocators: dict[str, Any] = field(default_factory=dict)
    contexts: dict[Any, _Context] = field(default_factory=dict)
    records: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        # TensorRT-RTX records graphs itself (its runtime configuration asks for it)
        self.records = self.session.options.cuda_graphs and not self.session.flavour.ahead_of_time
        for name in (*self.signature.input_names, *self.signature.output_names):
            buffer = self.session.cuda.buffer()
            self.buffers[name] = buffer
            self.owner.callback(buffer.free)
        self.owner.callback(self._forget)

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs."""
        return self.session.record.signature

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user of the answers and of their latency should know."""
        return (self.note,) if self.note else ()

    def run(self, batch: Batch) -> Batch:
        """Run one batch; the arrays returned belong to the caller.

        Raises:
            DataError: The batch does not fit the signature, or no profile of the engine covers its shapes.
            RunError: The device failed, or the runner is closed.
        """
        if not self.owner.open:
            raise RunError("This runner is closed.", next_step="open the engine again")
        self.signature.check_inputs(batch)
        cuda = self.session.cuda
        cuda.make_current()
        try:
            context = self._prepare(tuple(tuple(batch[name].shape) for name in self.signature.input_names))
            for name in self.signature.input_names:
                array = batch[name]
                self.buffers[name].view(array.dtype, array.shape)[...] = array
                cuda.upload(self.buffers[name], array.nbytes, self.stream)
            self._execute(context)
            shapes = self._output_shapes(context)
            for spec in self.signature.outputs:
                if size := _size(spec, shapes[spec.name]):
                    cuda.download(self.buffers[spec.name], size, self.stream)
            cuda.synchronize(self.stream)
        except BaseException:
            with suppress(RunError):  # nothing may be under way when buffers move or go
                cuda.synchronize(self.stream)
            raise
        return {
            spec.name: self.buffers[spec.name].view(numpy_dtype(spec.dtype), shapes[spec.name]).copy()
            for spec in self.signature.outputs
        }

    def _prepare(self, key: Key) -> _Context:
        """Return a context that knows the shapes and the addresses of this run."""
        profile = self._profile_for(key)
        place = key if self.records else profile
        context = self.contexts.pop(place, None) or self._new_context(profile)
        self.contexts[place] = context  # the latest one last
        while len(self.contexts) > GRAPHS:
            self._drop(next(iter(self.contexts)))
        if context.key != key:
            self._set_shapes(context, key)
        self._reserve(key, context.outputs)
        addresses = tuple(self.buffers[name].device for name in self._addressed(context))
        if context.addresses != addresses:
            self._free_graph(context)
            context.addresses = ()
            for name, address in zip(self._addressed(context), addresses, strict=True):
                self._expect(context.handle.set_tensor_address(name, address), f"address of '{name}'")
            context.addresses = addresses
        return context

    def _set_shapes(self, context: _Context, key: Key) -> None:
        self._free_graph(context)
        context.key, context.addresses = None, ()
        for name, shape in zip(self.signature.input_names, key, strict=True):
            self._expect(context.handle.set_input_shape(name, shape), f"shape {shape} of '{name}'")
        context.outputs = {name: tuple(context.handle.get_tensor_shape(name)) for name in self.signature.output_names}
        for name in self._measured(context):
            if name not in self.allocators:
                self.allocators[name] = make_allocator(self.session.module, self.buffers[name])
            self._expect(context.handle.set_output_allocator(name, self.allocators[name]), f"allocator of '{name}'")
        context.key = key

    def _measured(self, context: _Context) -> list[str]:
        """Outputs whose sizes depend on the data, so that only a run can tell them."""
        return [name for name, shape in context.outputs.items() if min(shape, default=0) < 0]

    def _addressed(self, context: _Context) -> list[str]:
        measured = self._measured(context)
        return [name for name in self.buffers if name not in measured]

    def _reserve(self, key: Key, outputs: dict[str, tuple[int, ...]]) -> None:
        """Make room for inputs and outputs. Where there is not enough, all that a run before has stays valid."""
        for spec, shape in zip(self.signature.inputs, key, strict=True):
            self.buffers[spec.name].reserve(max(_size(spec, shape), 1))
        for spec in self.signature.outputs:
            if min(outputs[spec.name], default=0) >= 0:
                self.buffers[spec.name].reserve(max(_size(spec, outputs[spec.name]), 1))

    def _execute(self, context: _Context) -> None:
        cuda = self.session.cuda
        if context.graph is not None:
            cuda.launch(context.graph, self.stream)
            return
        self._enqueue(context)
        if self.records and not self._measured(context):
            cuda.synchronize(self.stream)  # the first run may allocate, which a recording must not
            try:
                context.graph = self._record(context)
            except RunError as error:
                self.records = False  # the answer of the plain run stands; later ones are plain, too
                self.note = f"not run as a CUDA graph: {error.found or error.message}"

    def _enqueue(self, context: _Context) -> None:
        for allocator in self.allocators.values():
            allocator.error = None
        passed = context.handle.execute_async_v3(self.stream)
        for allocator in self.allocators.values():
            if allocator.error is not None:
                raise allocator.error
        self._expect(passed, "run")

    def _record(self, context: _Context) -> Any:
        """Return this context's run as a graph; the stream is out of its recording whatever happens.

        Raises:
            RunError: It cannot be recorded.
        """
        cuda = self.session.cuda
        cuda.begin_capture(self.stream)
        try:
            self._expect(context.handle.execute_async_v3(self.stream), "recording")
        except BaseException:
            with suppress(RunError):
                cuda.free_graph(cuda.end_capture(self.stream))
            raise
        return cuda.end_capture(self.stream)

    def _output_shapes(self, context: _Context) -> dict[str, tuple[int, ...]]:
        measured = self._measured(context)
        if measured:
            self.session.cuda.synchronize(self.stream)
        return {name: self.allocators[name].shape if name in measured else it for name, it in context.outputs.items()}

    def _profile_for(self, key: Key) -> int:
        """Take, among the profiles that cover these shapes, the one that is tuned for the nearest ones.

        Distances are of logarithms: a batch of 2 is as far from 1 as 640 pixels from 320. Of equals the narrower wins.
        """
        shapes = dict(zip(self.signature.input_names, key, strict=True))
        profiles = self.session.record.spec.profiles
        if not profiles:
            return 0
        found = [index for index, profile in enumerate(profiles) if _covers(profile, shapes)]
        if not found:
            raise DataError(
                "No profile of the engine covers this batch.",
                found=", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()),
                expected="; or ".join(
                    ", ".join(f"{name} {list(r.min)} to {list(r.max)}" for name, r in profile.items())
                    for profile in profiles
                ),
                next_step="build the engine again with a --profile or --shape that covers it",
            )
        return min(found, key=lambda index: _distance(profiles[index], shapes))

    def _new_context(self, profile: int) -> _Context:
        handle = self.session.make_context()
        if handle is None and self.contexts:  # the memory of those that were kept may be what is missing
            self._forget()
            handle = self.session.make_context()
        if handle is None:
            raise RunError("The engine gives no execution context.", found=self.session.log.tail())
        if self.session.record.spec.profiles:
            self._expect(handle.set_optimization_profile_async(profile, self.stream), f"profile {profile}")
            self.session.cuda.synchronize(self.stream)
        return _Context(handle, profile)

    def _forget(self) -> None:
        while self.contexts:
            self._drop(next(iter(self.contexts)))

    def _drop(self, place: Any) -> None:
        self._free_graph(self.contexts.pop(place))

    def _free_graph(self, context: _Context) -> None:
        graph, context.graph = context.graph, None
        if graph is not None:
            self.session.cuda.free_graph(graph)

    def _expect(self, passed: bool, what: str) -> None:
        if not passed:
            raise RunError(f"The engine refuses its {what}.", found=self.session.log.tail() or None)


def make_allocator(module: Any, buffer: Buffer) -> Any:
    """Return an output allocator of the vendor's kind that gives the memory of ``buffer`` and notes the shape."""

    class Allocator(module.IOutputAllocator):  # type: ignore[misc]
        def __init__(self) -> None:
            module.IOutputAllocator.__init__(self)
            self.shape: tuple[int, ...] = ()
            self.error: RunError | None = None

        def reallocate_output(self, _name: str, _memory: int, size: int, _alignment: int) -> int:
            try:
                buffer.reserve(max(size, 1))
            except RunError as error:  # must not travel through native code
                self.error = error
                return 0
            return buffer.device

        def reallocate_output_async(self, name: str, memory: int, size: int, alignment: int, _stream: int) -> int:
            return self.reallocate_output(name, memory, size, alignment)

        def notify_shape(self, _name: str, shape: Any) -> None:
            self.shape = tuple(shape)

    return Allocator()


def _covers(profile: Mapping[str, ShapeRange], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return all(
        low <= size <= high
        for name, shape in shapes.items()
        for low, size, high in zip(profile[name].min, shape, profile[name].max, strict=True)
    )


def _distance(profile: Mapping[str, ShapeRange], shapes: Mapping[str, tuple[int, ...]]) -> tuple[float, float]:
    """Return how far shapes are from what a profile is tuned for, and how wide the profile is."""
    tuned = [pair for name, shape in shapes.items() for pair in zip(shape, profile[name].opt, strict=True)]
    wide = [pair for name in shapes for pair in zip(profile[name].min, profile[name].max, strict=True)]
    return sum(abs(_log(a) - _log(b)) for a, b in tuned), sum(_log(high) - _log(low) for low, high in wide)


def _log(size: int) -> float:
    return math.log(size + 1)


def _size(spec: TensorSpec, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * numpy_dtype(spec.dtype).itemsize


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return NumPy's type of a tensor; bfloat16 comes from ml_dtypes, which onnx brings."""
    if name == "bfloat16":
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return found
    return np.dtype(name)


@contextmanager
def _contexts(module: Any, flavour: Flavour, engine: Any, options: RunOptions) -> Iterator[Callable[[], Any]]:
    if flavour.ahead_of_time:
        with runtime_config(
            module,
            engine,
            cache=options.runtime_cache,
            cuda_graphs=options.cuda_graphs,
            quick_start=options.quick_start,
        ) as config:
            yield lambda: engine.create_execution_context(config)
    else:
        yield engine.create_execution_context


def _set_streaming_budget(engine: Any, log: Log) -> None:
    """Decide how many bytes of weights stay on the device; that must be done before the first context."""
    budget = int(engine.get_weight_streaming_automatic_budget())
    engine.weight_streaming_budget_v2 = budget
    found = int(engine.weight_streaming_budget_v2)
    # a budget for more than there are may be noted as all of them
    if found != budget and found < int(engine.streamable_weights_size):
        raise RunError(
            "The engine refuses its budget for streamed weights.",
            found=f"{found} bytes on the device; {log.tail()}".rstrip("; "),
            expected=f"{budget} bytes",
            next_step="free memory on the GPU, or build without --weight-streaming",
        )


def _ask_vendor(module: Any, runtime: Any, data: bytes, plan: Path) -> None:
    """TensorRT-RTX can judge a plan by its header."""
    if not hasattr(runtime, "get_engine_validity"):
        return
    validity, diagnostics = runtime.get_engine_validity(data)
    if validity == member(module, "EngineValidity", "INVALID"):
        reasons = [
            name.lower().replace("_", " ")
            for name, value in module.EngineInvalidityDiagnostics.__members__.items()
            if int(diagnostics) & int(value)
        ]
        raise ArtifactError(
            f"{module.__name__} {module.__version__} refuses the engine '{plan}'.",
            found=", ".join(reasons) or f"diagnostics {int(diagnostics)}",
            next_step="build it again on this machine; 'linglos-deploy doctor BUNDLE' shows the command",
        )


def _fill_in_weights(module: Any, engine: Any, weights: Path | None, *, logger: Any, log: Log, plan: Path) -> None:
    if weights is None:
        raise ArtifactError(
            f"The engine '{plan}' was built without its weights.",
            expected="the ONNX file that it was compiled from",
            next_step="put that file beside the engine, or name it: --weights MODEL.onnx",
        )
    refitter = module.Refitter(engine, logger)
    parser = module.OnnxParserRefitter(refitter, logger)
    if not parser.refit_from_file(str(weights)) or not refitter.refit_cuda_engine():
        raise ArtifactError(f"The weights of '{weights}' do not fit the engine '{plan}'.", found=log.tail())
