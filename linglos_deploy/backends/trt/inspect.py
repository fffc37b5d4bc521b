"""Look into a built plan: deserialize it, ask the inspector for its layers, and time them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from linglos_deploy.artifacts import OnnxArtifact, load_onnx
from linglos_deploy.backends.asked import asked_layers
from linglos_deploy.backends.trt.cuda import Cuda
from linglos_deploy.backends.trt.flavour import Flavour
from linglos_deploy.backends.trt.precision import expected_precisions, read_inspector
from linglos_deploy.backends.trt.runner import RunOptions, Session, numpy_dtype, open_session
from linglos_deploy.engines.record import EngineRecord, PrecisionProof
from linglos_deploy.errors import LinglosError

REPEATS = 5


def prove_precisions(
    module: Any,
    flavour: Flavour,
    *,
    plan: Path,
    record: EngineRecord,
    model: OnnxArtifact,
    device: int | None,
    why_not: str,
    load_cuda: Callable[[], Any],
) -> PrecisionProof:
    """Say in which precisions the layers of an engine compute; where they cannot be seen, say why.

    Args:
        module: The vendor's module.
        flavour: Which of the two it is.
        plan: The engine.
        record: Its sidecar.
        model: The graph that it was compiled from.
        device: Number of the GPU; ``None`` if there is none that can load the engine.
        why_not: Why there is none.
        load_cuda: Imports the CUDA bindings.
    """
    asked = asked_layers(load_onnx(model.path))
    expected = expected_precisions(asked)
    if device is None:
        return PrecisionProof(False, f"not inspected, {why_not}", expected=expected)
    options = RunOptions(cuda_graphs=False, allow_host_code=True, weights=model.path)  # it was built here just now
    try:
        cuda = Cuda(load_cuda(), device)
        with open_session(module, flavour, plan, record, cuda=cuda, options=options) as session:
            times = _time_layers(session)
            inspector = session.engine.create_engine_inspector()
            text = inspector.get_engine_information(module.LayerInformationFormat.JSON)
    except LinglosError as error:
        return PrecisionProof(False, f"not inspected: {error.message} {error.found or ''}".strip(), expected=expected)
    return read_inspector(text, asked, times)


def _time_layers(session: Session) -> dict[str, float]:
    """Return the running time of each layer in milliseconds, at the shapes that the first profile is tuned for."""
    times: dict[str, float] = {}

    class Profiler(session.module.IProfiler):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            session.module.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            times[layer_name] = times.get(layer_name, 0.0) + ms

    profiler = Profiler()
    batch = {name: np.zeros(shape, dtype) for name, shape, dtype in _tuned_shapes(session.record)}
    with session.runner() as runner, _profiled(session, profiler):
        for _ in range(REPEATS):
            runner.run(batch)
    return times


@contextmanager
def _profiled(session: Session, profiler: Any) -> Iterator[None]:
    make_context = session.make_context

    def make_profiled() -> Any:
        context = make_context()
        context.profiler = profiler
        return context

    session.make_context = make_profiled
    try:
        yield
    finally:
        session.make_context = make_context


def _tuned_shapes(record: EngineRecord) -> Iterator[tuple[str, tuple[int, ...], np.dtype[Any]]]:
    for spec in record.signature.inputs:
        if record.spec.profiles:
            shape = record.spec.profiles[0][spec.name].opt
        else:
            shape = tuple(dim for dim in spec.dims if isinstance(dim, int))
        yield spec.name, shape, numpy_dtype(spec.dtype)
