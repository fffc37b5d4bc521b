"""Blocks: in each, every candidate has one fresh process, and all of them take turns in an order drawn by lot.

A process keeps for its whole life where its memory came to lie, which alone makes it a percent faster or slower. So
there are several processes of each candidate. Those that share a block are timed next to each other, round by round:
what happens to the machine happens to all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from linglos_deploy.artifacts import EngineArtifact, OnnxArtifact
from linglos_deploy.codec import to_builtins
from linglos_deploy.engines.record import read_record
from linglos_deploy.engines.served import tuned_shapes
from linglos_deploy.errors import LinglosError, UsageError
from linglos_deploy.profiling.describe import Described
from linglos_deploy.profiling.messages import Closed, Opened, OpenRequest, Reply, Request, RoundRequest, WarmRequest
from linglos_deploy.profiling.plan import Candidate, MeasurementPlan
from linglos_deploy.profiling.process import Worker, WorkerError, start_worker
from linglos_deploy.profiling.warmup import Warmed
from linglos_deploy.progress import Advance


@dataclass(slots=True)
class Process:
    """What one process of a candidate gave.

    Attributes:
        opened: How it came to be.
        warmed: How its warm-up went; ``None`` without one.
        rounds: Milliseconds of its timed runs, round by round.
        cpu_ms: CPU time that it took for them.
        closed: What it said at its end.
    """

    opened: Opened
    warmed: Warmed | None = None
    rounds: list[list[float]] = field(default_factory=list)
    cpu_ms: float = 0.0
    closed: Closed | None = None


@dataclass(slots=True)
class Measurement:
    """One row in the making: a candidate at one batch size, image size and number of threads."""

    candidate: Candidate
    described: Described | None
    batch: int
    threads: int
    image_size: tuple[int, int] | None
    processes: list[Process] = field(default_factory=list)
    failure: WorkerError | None = None

    @property
    def rounds(self) -> list[list[list[float]]]:
        """Timed runs of each process."""
        return [process.rounds for process in self.processes]


def run_block(
    group: Sequence[Measurement], plan: MeasurementPlan, *, seed: int, order: np.random.Generator, advance: Advance
) -> None:
    """Start a process of every candidate that has not failed, let them take turns, and end them.

    Args:
        group: What is compared; gets one more process each.
        plan: How.
        seed: Of the input.
        order: Draws in which order candidates are started and take turns.
        advance: Told when a candidate has had a process.

    Raises:
        UsageError: A model does not take what was asked for.
    """
    alive: list[tuple[Measurement, Worker, Process]] = []
    with ExitStack() as stack:
        for place in order.permutation(len(group)):  # one after the other: cold starts shall not disturb each other
            item = group[place]
            if item.failure is None:
                worker = stack.enter_context(start_worker())
                process = _open(item, worker, plan, seed)
                if process is not None:
                    alive.append((item, worker, process))
        for _ in range(plan.rounds):
            for place in order.permutation(len(alive)):
                item, worker, process = alive[place]
                _round(item, worker, process, plan)
        for item, worker, process in alive:
            reply = _ask(item, worker, Request(), timeout=plan.timeout_seconds)
            if reply is not None:
                process.closed = reply.closed
                item.processes.append(process)
    advance(len(group))


def _open(item: Measurement, worker: Worker, plan: MeasurementPlan, seed: int) -> Process | None:
    artifact = item.described.artifact if item.described is not None else None
    request = OpenRequest(
        backend=item.candidate.backend,
        options=dict(item.candidate.options),
        threads=item.threads,
        onnx=artifact if isinstance(artifact, OnnxArtifact) else None,
        engine=artifact if isinstance(artifact, EngineArtifact) else None,
        source=None if item.candidate.source is None else to_builtins(item.candidate.source),
        batch=item.batch,
        image_size=item.image_size,
        seed=seed,
        layers=plan.layers and not item.processes,
        shapes=_shapes(artifact, item, plan),
        data=None if plan.data is None else str(plan.data),
        device=item.candidate.device,
    )
    reply = _ask(item, worker, Request(open=request), timeout=plan.timeout_seconds)
    if reply is None:
        return None
    assert reply.opened is not None
    size = reply.opened.image_size
    if plan.image_sizes and size != item.image_size:
        raise UsageError(
            f"'{item.candidate.label}' was to be measured at an image size that its input does not have.",
            found=f"images of {size[0]} x {size[1]}" if size is not None else "input that is no image",
            expected=f"images of {item.image_size[0]} x {item.image_size[1]}" if item.image_size is not None else None,
            next_step="leave out --imgsz, or what else says what the input is: --shape, --data",
        )
    process = Process(reply.opened)
    if plan.warmup_seconds:
        longest = plan.warmup_seconds
        reply = _ask(item, worker, Request(warm=WarmRequest(longest)), timeout=longest + plan.timeout_seconds)
        process.warmed = reply.warmed if reply is not None else None
    return process if item.failure is None else None


def _shapes(
    artifact: OnnxArtifact | EngineArtifact | None, item: Measurement, plan: MeasurementPlan
) -> dict[str, tuple[int, ...]]:
    """Return the shapes that were asked for; an engine is measured at those it is tuned for where none were."""
    if not isinstance(artifact, EngineArtifact) or "" in plan.shapes:
        return dict(plan.shapes)
    record = read_record(artifact.path)
    tuned = tuned_shapes(record.signature, record.spec.profiles, batch=item.batch, image_size=item.image_size)
    return {**tuned, **plan.shapes}


def _round(item: Measurement, worker: Worker, process: Process, plan: MeasurementPlan) -> None:
    request = RoundRequest(runs=math.ceil(plan.min_runs / plan.rounds), seconds=plan.min_seconds / plan.rounds)
    reply = _ask(item, worker, Request(round=request), timeout=request.seconds + plan.timeout_seconds)
    if reply is not None:
        assert reply.round is not None
        process.rounds.append(reply.round.samples_ms)
        process.cpu_ms += reply.round.cpu_ms


def _ask(item: Measurement, worker: Worker, request: Request, *, timeout: float) -> Reply | None:
    """Ask a worker of a candidate that has not failed yet; a failure now is the result of its row."""
    if item.failure is not None:
        return None
    try:
        return worker.ask(request, timeout=timeout)
    except WorkerError as failure:
        item.failure = failure
    except UsageError as error:
        raise UsageError(
            f"'{item.candidate.label}' cannot be measured like this. {error.message}",
            found=error.found or f"batch {item.batch}",
            expected=error.expected,
            next_step=error.next_step,
        ) from error
    except LinglosError as error:
        item.failure = WorkerError(f"Its answer cannot be read. {error}")
    worker.process.kill()
    return None


def file_bytes(path: Path | None) -> int | None:
    """Return the size of a candidate's file; ``None`` if it has none."""
    return None if path is None else path.stat().st_size
