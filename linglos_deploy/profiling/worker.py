"""One candidate in a process of its own: ``python -m linglos_deploy.profiling.worker``, JSON lines on stdin and stdout.

Two sessions in one process disturb each other: idle worker threads of the first keep spinning while the second one
runs. So a worker opens one model, and waits on its standard input between rounds.
"""

from __future__ import annotations

import gc
import inspect
import json
import os
import resource
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from linglos_deploy.artifacts import Artifact, OnnxArtifact, TorchModel, load_onnx
from linglos_deploy.backends import registry
from linglos_deploy.backends.base import Device, LayerTimer, Noted, Runner, Runtime
from linglos_deploy.errors import DataError, LinglosError, MissingDependencyError, UsageError
from linglos_deploy.graph.axes import input_axes
from linglos_deploy.graph.feeds import Sizes, index_ranges, synthetic_feeds
from linglos_deploy.graph.metadata import stated_preprocessing
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.images.tensors import open_tensors
from linglos_deploy.profiling.inputs import image_size_of
from linglos_deploy.profiling.messages import (
    Closed,
    Failure,
    Kind,
    Opened,
    OpenRequest,
    Reply,
    Request,
    Round,
    RoundRequest,
    decode,
    encode,
)
from linglos_deploy.profiling.warmup import warm_up
from linglos_deploy.reports.profile import LayerProfile
from linglos_deploy.signature import Batch, ModelSignature

LAYER_RUNS = 20
STATUS = Path("/proc/self/status")


def main() -> None:
    """Serve the parent process until it closes the pipe; whatever libraries print goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as replies:
        os.dup2(2, 1)
        serve(sys.stdin, replies)


def serve(requests: Iterable[str], replies: IO[str]) -> None:
    """Answer each line of ``requests`` with a line on ``replies``; stop at their end, or after a failure."""
    with ExitStack() as stack:
        session: _Session | None = None
        for line in requests:
            try:
                request = decode(Request, line)
                if session is None:
                    assert request.open is not None, "the first request opens the model"
                    session, reply = _open(request.open, stack)
                elif request.warm is not None:
                    reply = Reply(warmed=warm_up(session.run, longest=request.warm.seconds, clock=time.perf_counter))
                elif request.round is not None:
                    reply = Reply(round=_run(session, request.round))
                else:
                    reply = Reply(closed=_close(session))
            except Exception as error:  # becomes the reason in this candidate's row
                reply = Reply(failure=_failure(error))
            replies.write(encode(reply))
            replies.flush()
            if reply.failure is not None:
                return


@dataclass(frozen=True, slots=True)
class _Session:
    name: str
    backend: Runtime
    artifact: Artifact
    runner: Runner
    batch: Batch
    layers: bool

    def run(self) -> None:
        """Run the batch once."""
        self.runner.run(self.batch)


def _open(request: OpenRequest, stack: ExitStack) -> tuple[_Session, Reply]:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # PyTorch's threads; read when its OpenMP library is loaded
    if request.threads:
        os.environ["OMP_NUM_THREADS"] = str(request.threads)
    started = time.perf_counter()
    artifact = _artifact(request)
    backend = registry.runtime(request.backend, **_options(request))
    where = {"device": Device.parse(request.device)} if request.device else {}
    runner = stack.enter_context(backend.open(artifact, **where))
    opened = time.perf_counter()
    image_size = request.image_size
    if image_size is None and (spec := _preprocessing(artifact)) is not None:
        image_size = spec.input_size
    try:
        batch = _input(request, runner.signature, artifact, image_size)
    except DataError as error:  # the model is open; it is what was asked of it that does not fit
        raise UsageError(
            error.message, found=error.found, expected=error.expected, next_step=error.next_step
        ) from error
    ready = time.perf_counter()
    runner.run(batch)
    answered = time.perf_counter()
    reply = Opened(
        open_ms=(opened - started) * 1e3,
        first_run_ms=(answered - ready) * 1e3,
        image_size=image_size_of(batch),
        options=_resolved_options(request.backend, backend),
        notes=runner.notes if isinstance(runner, Noted) else (),
    )
    return _Session(request.backend, backend, artifact, runner, batch, request.layers), Reply(opened=reply)


def _preprocessing(artifact: Artifact) -> PreprocessSpec | None:
    """Return how images become a model's input, where the model says it."""
    if isinstance(artifact, TorchModel):
        return artifact.preprocess
    return stated_preprocessing(artifact.path) if isinstance(artifact, OnnxArtifact) else None


def _input(
    request: OpenRequest, signature: ModelSignature, artifact: Artifact, image_size: tuple[int, int] | None
) -> Batch:
    if request.data is None:
        shapes = request.shapes
        if isinstance(artifact, TorchModel) and artifact.preprocess is None:
            shapes = {**artifact.input_shapes(batch=request.batch), **shapes}
        sizes = Sizes(batch=request.batch, image_size=image_size, shapes=shapes)
        ranges = index_ranges(load_onnx(artifact.path)) if isinstance(artifact, OnnxArtifact) else {}
        return synthetic_feeds(signature, sizes, seed=request.seed, index_ranges=ranges)
    axes = input_axes(signature)
    given = next(open_tensors(Path(request.data), signature, axes.axes).batches(request.batch, signature=signature))
    return axes.pick(given, [place % axes.count(given) for place in range(request.batch)])


def _artifact(request: OpenRequest) -> Artifact:
    if request.source is None:
        artifact = request.onnx or request.engine
        assert artifact is not None, "a request names a model"
        return artifact
    from linglos_deploy.models.loading import ModelSource, load_model

    return load_model(decode(ModelSource, json.dumps(request.source)))


def _options(request: OpenRequest) -> dict[str, Any]:
    """Add the number of threads where the backend takes one; elsewhere it has no meaning or comes by environment."""
    takes_threads = "threads" in inspect.signature(registry.factory(request.backend)).parameters
    return {**({"threads": request.threads} if takes_threads else {}), **request.options}


def _run(session: _Session, request: RoundRequest) -> Round:
    """Time single runs, without pauses by the garbage collector."""
    run, batch, clock = session.runner.run, session.batch, time.perf_counter_ns
    run(batch)  # other candidates have used the caches in the meantime
    samples: list[int] = []
    gc.collect()
    gc.disable()
    try:
        cpu = time.process_time_ns()
        end = clock() + int(request.seconds * 1e9)
        while len(samples) < request.runs or (clock() < end and len(samples) < request.most):
            started = clock()
            run(batch)
            samples.append(clock() - started)
        cpu = time.process_time_ns() - cpu
    finally:
        gc.enable()
    return Round([sample / 1e6 for sample in samples], cpu / 1e6)


def _close(session: _Session) -> Closed:
    peak = peak_rss()
    version = registry.probe(session.name).version
    layers: LayerProfile | None = None
    if session.layers and isinstance(session.backend, LayerTimer):
        layers = session.backend.layer_times(session.artifact, session.batch, runs=LAYER_RUNS)
        if layers is not None and isinstance(session.artifact, OnnxArtifact):
            from linglos_deploy.profiling.work import with_work  # it imports onnx

            layers = with_work(layers, session.artifact, session.batch)
    return Closed(peak_rss_bytes=peak, versions={session.name: version} if version else {}, layers=layers)


def peak_rss() -> int:
    """Return this program's peak of resident memory in bytes.

    ``ru_maxrss`` would count what the parent held when it started this process, so it is only the second choice.
    """
    try:
        for line in STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _resolved_options(name: str, backend: object) -> dict[str, str]:
    """Return the backend's options as it resolved them, as far as it keeps them under their names."""
    values = {option: getattr(backend, option, None) for option in inspect.signature(registry.factory(name)).parameters}
    return {option: str(value) for option, value in values.items() if isinstance(value, str | int | float | bool)}


def _failure(error: Exception) -> Failure:
    if not isinstance(error, LinglosError):
        return Failure(f"{type(error).__name__}: {error}")
    kind = Kind.FAILED
    if isinstance(error, MissingDependencyError):
        kind = Kind.MISSING
    elif isinstance(error, UsageError):
        kind = Kind.USAGE
    return Failure(error.message, kind, error.found, error.expected, error.next_step)


if __name__ == "__main__":
    main()
