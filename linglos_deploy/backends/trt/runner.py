"""Engine -> runner: name-based I/O, buffers that are reused, one stream and one set of contexts per runner."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from linglos_deploy.backends.trt.cuda import Buffer, Cuda
from linglos_deploy.backends.trt.flavour import Flavour, member
from linglos_deploy.backends.trt.log import Log, make_logger
from linglos_deploy.backends.trt.rtx_cache import runtime_config
from linglos_deploy.engines.record import EngineRecord
from linglos_deploy.errors import ArtifactError, DataError, RunError
from linglos_deploy.signature import Batch, ModelSignature

GRAPHS = 8
"""CUDA graphs that one runner keeps; the oldest goes first."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How engines are run.

    Attributes:
        cuda_graphs: Whether repeated shapes are launched as one recorded CUDA graph.
        allow_host_code: Whether version-compatible engines, which hold host code, may be loaded.
        weights: ONNX file that a weight-stripped engine takes its weights from.
        runtime_cache: File for the kernels that TensorRT-RTX compiles on this machine; ``None`` for none.
    """

    cuda_graphs: bool = True
    allow_host_code: bool = False
    weights: Path | None = None
    runtime_cache: Path | None = None


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
        with ExitStack() as owner:
            self.cuda.select()
            runner = EngineRunner(self, self.cuda.stream(owner), owner)
            yield runner
            self.cuda.synchronize(runner.stream)


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
    if record.spec.weight_streaming:  # how much stays on the device must be decided before the first context
        engine.weight_streaming_budget_v2 = engine.get_weight_streaming_automatic_budget()
    with ExitStack() as owner:
        make_context = owner.enter_context(_contexts(module, flavour, engine, options))
        yield Session(module, flavour, engine, record, cuda, log, options, make_context)


@dataclass(slots=True)
class _Shapes:
    """Everything that one combination of input shapes needs."""

    context: Any
    profile: int
    outputs: dict[str, tuple[int, ...]]
    graph: Any = None


@dataclass(slots=True)
class EngineRunner:
    """Runs batches on one stream. Use it from one thread at a time."""

    session: Session
    stream: int
    owner: ExitStack
    buffers: dict[str, Buffer] = field(default_factory=dict)
    contexts: dict[int, Any] = field(default_factory=dict)
    prepared: dict[tuple[tuple[int, ...], ...], _Shapes] = field(default_factory=dict)
    active: tuple[tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        for name in (*self.signature.input_names, *self.signature.output_names):
            buffer = self.session.cuda.buffer()
            self.buffers[name] = buffer
            self.owner.callback(buffer.free)
        self.owner.callback(self._forget_graphs)

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs."""
        return self.session.record.signature

    def run(self, batch: Batch) -> Batch:
        """Run one batch; the arrays returned are valid until the next call.

        Raises:
            DataError: The batch does not fit the signature, or no profile of the engine covers its shapes.
            RunError: The device failed.
        """
        self.signature.check_inputs(batch)
        cuda = self.session.cuda
        key = tuple(tuple(batch[name].shape) for name in self.signature.input_names)
        shapes = self._prepare(key, batch)
        for name in self.signature.input_names:
            array = batch[name]
            self.buffers[name].view(array.dtype, array.shape)[...] = array
            cuda.upload(self.buffers[name], array.nbytes, self.stream)
        self._execute(key, shapes)
        outputs = {}
        for spec in self.signature.outputs:
            dtype, shape = numpy_dtype(spec.dtype), shapes.outputs[spec.name]
            buffer = self.buffers[spec.name]
            cuda.download(buffer, int(np.prod(shape)) * dtype.itemsize, self.stream)
            outputs[spec.name] = buffer.view(dtype, shape)
        cuda.synchronize(self.stream)
        return outputs

    def _prepare(self, key: tuple[tuple[int, ...], ...], batch: Batch) -> _Shapes:
        shapes = self.prepared.get(key)
        if shapes is None:
            profile = self._profile_for(key)
            context = self._context(profile)
            self._set_shapes(context, key)
            outputs = {name: tuple(context.get_tensor_shape(name)) for name in self.signature.output_names}
            shapes = _Shapes(context, profile, outputs)
            self._reserve(batch, outputs)
            self.prepared[key] = shapes
            while len(self.prepared) > GRAPHS:
                self._drop(next(iter(self.prepared)))
        elif self.active != key:
            self._set_shapes(shapes.context, key)
        if self.active != key:
            for name, buffer in self.buffers.items():
                self._expect(shapes.context.set_tensor_address(name, buffer.device), f"address of '{name}'")
            self.active = key
        return shapes

    def _set_shapes(self, context: Any, key: tuple[tuple[int, ...], ...]) -> None:
        for name, shape in zip(self.signature.input_names, key, strict=True):
            self._expect(context.set_input_shape(name, shape), f"shape {shape} of '{name}'")

    def _reserve(self, batch: Batch, outputs: dict[str, tuple[int, ...]]) -> None:
        sizes = {name: batch[name].nbytes for name in self.signature.input_names}
        for spec in self.signature.outputs:
            sizes[spec.name] = int(np.prod(outputs[spec.name])) * numpy_dtype(spec.dtype).itemsize
        moved = [name for name, size in sizes.items() if self.buffers[name].reserve(max(size, 1))]
        if moved:
            self._forget_graphs()  # a recorded graph holds the old addresses
            self.active = None

    def _execute(self, key: tuple[tuple[int, ...], ...], shapes: _Shapes) -> None:
        cuda, session = self.session.cuda, self.session
        if shapes.graph is not None:
            cuda.launch(shapes.graph, self.stream)
            return
        self._expect(shapes.context.execute_async_v3(self.stream), "run")
        # TensorRT-RTX records graphs itself (its runtime configuration asks for it)
        if session.options.cuda_graphs and not session.flavour.ahead_of_time:
            cuda.synchronize(self.stream)  # the first run may allocate, which a recording must not
            cuda.begin_capture(self.stream)
            self._expect(shapes.context.execute_async_v3(self.stream), "record")
            shapes.graph = cuda.end_capture(self.stream)

    def _profile_for(self, key: tuple[tuple[int, ...], ...]) -> int:
        """Take the profile that is tuned for the nearest shape among those that cover this one."""
        names = self.signature.input_names
        profiles = self.session.record.spec.profiles
        if not profiles:
            return 0
        distances: dict[int, float] = {}
        for index, profile in enumerate(profiles):
            ranges = [profile[name] for name in names]
            if all(
                low <= size <= high
                for shape, r in zip(key, ranges, strict=True)
                for low, size, high in zip(r.min, shape, r.max, strict=True)
            ):
                distances[index] = sum(
                    abs(size - best)
                    for shape, r in zip(key, ranges, strict=True)
                    for size, best in zip(shape, r.opt, strict=True)
                )
        if not distances:
            covered = "; ".join(f"{tuple(p[n].min)} to {tuple(p[n].max)}" for p in profiles for n in names)
            raise DataError(
                "No profile of the engine covers this batch.",
                found=", ".join(f"{name} {list(shape)}" for name, shape in zip(names, key, strict=True)),
                expected=covered,
                next_step="build the engine again with a --profile that covers it",
            )
        return min(distances, key=lambda index: distances[index])

    def _context(self, profile: int) -> Any:
        if profile not in self.contexts:
            context = self.session.make_context()
            if context is None:
                raise RunError("The engine gives no execution context.", found=self.session.log.tail())
            if self.session.record.spec.profiles:
                self._expect(context.set_optimization_profile_async(profile, self.stream), f"profile {profile}")
                self.session.cuda.synchronize(self.stream)
            self.contexts[profile] = context
        return self.contexts[profile]

    def _drop(self, key: tuple[tuple[int, ...], ...]) -> None:
        shapes = self.prepared.pop(key)
        if shapes.graph is not None:
            self.session.cuda.free_graph(shapes.graph)

    def _forget_graphs(self) -> None:
        for shapes in self.prepared.values():
            if shapes.graph is not None:
                self.session.cuda.free_graph(shapes.graph)
                shapes.graph = None

    def _expect(self, passed: bool, what: str) -> None:
        if not passed:
            raise RunError(f"The engine refuses its {what}.", found=self.session.log.tail())


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
        with runtime_config(module, engine, cache=options.runtime_cache, cuda_graphs=options.cuda_graphs) as config:
            yield lambda: engine.create_execution_context(config)
    else:
        yield engine.create_execution_context


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
