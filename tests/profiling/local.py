"""Workers without processes, and a clock that only the models move: measurements whose truth is known to the digit."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from linglos_deploy.artifacts import Artifact
from linglos_deploy.backends import registry
from linglos_deploy.backends.base import CPU, Device
from linglos_deploy.profiling import blocks, measure, worker
from linglos_deploy.profiling.messages import Kind, Reply, Request, decode, encode
from linglos_deploy.profiling.process import WorkerError
from linglos_deploy.reports.profile import Conditions
from linglos_deploy.signature import ModelSignature

FACTORY = "tests.profiling.local:Scripted"


class Clock:
    """Milliseconds that have passed, and how many models were opened so far."""

    now_ms = 0.0
    opened = 0


class Scripted:
    """Takes as long as ``script`` says: an expression of ``run`` and ``process`` (from 0), ``now`` and ``random``."""

    def __init__(self, *, threads: int = 0, script: str = "10", seed: int = 0) -> None:
        self.name = "scripted"
        self.threads = threads
        self.script = script
        self.seed = seed

    @contextmanager
    def open(self, artifact: Artifact, *, device: Device = CPU) -> Iterator[ScriptedRunner]:
        Clock.opened += 1
        yield ScriptedRunner(artifact.signature, self)  # type: ignore[union-attr]


class ScriptedRunner:
    notes = ()

    def __init__(self, signature: ModelSignature, backend: Scripted) -> None:
        self.signature = signature
        self.script = compile(backend.script, "script", "eval")
        self.random = np.random.default_rng((backend.seed, Clock.opened))
        self.process = Clock.opened - 1
        self.runs = 0

    def run(self, batch: Any) -> dict[str, Any]:
        values = {"run": self.runs, "process": self.process, "now": Clock.now_ms, "random": self.random, "np": np}
        Clock.now_ms += float(eval(self.script, values))
        self.runs += 1
        return {}


class LocalWorker:
    """Answers like :class:`linglos_deploy.profiling.process.Worker`, from a thread."""

    def __init__(self) -> None:
        self.process = SimpleNamespace(kill=lambda: None)
        self._requests: queue.Queue[str | None] = queue.Queue()
        self._replies: queue.Queue[str] = queue.Queue()
        replies = SimpleNamespace(write=self._replies.put, flush=lambda: None)
        self._thread = threading.Thread(target=worker.serve, args=(iter(self._requests.get, None), replies))
        self._thread.start()

    def ask(self, request: Request, *, timeout: float) -> Reply:
        self._requests.put(encode(request))
        reply = decode(Reply, self._replies.get())
        if reply.failure is not None:
            raise WorkerError(reply.failure.message, missing=reply.failure.kind is Kind.MISSING)
        return reply

    def close(self) -> None:
        self._requests.put(None)
        self._thread.join()


@contextmanager
def start_local_worker() -> Iterator[LocalWorker]:
    local = LocalWorker()
    try:
        yield local
    finally:
        local.close()


def use_scripted_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers be threads of this process, and time what the scripts say."""
    monkeypatch.setattr(Clock, "now_ms", 0.0)
    monkeypatch.setattr(Clock, "opened", 0)
    monkeypatch.setitem(registry.BUILTIN, "scripted", FACTORY)
    monkeypatch.setattr(blocks, "start_worker", start_local_worker)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # a worker sets both for its own process
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    virtual = SimpleNamespace(
        perf_counter=lambda: Clock.now_ms / 1e3,
        perf_counter_ns=lambda: round(Clock.now_ms * 1e6),
        process_time_ns=time.process_time_ns,
    )
    monkeypatch.setattr(worker, "time", virtual)
    idle = SimpleNamespace(collect=lambda: 0, disable=lambda: None, enable=lambda: None)
    monkeypatch.setattr(worker, "gc", idle)  # collecting what all tests have left behind takes longer than they do
    conditions = Conditions((), 2, 0.0, usable_cpus=2.0)
    monkeypatch.setattr(measure, "this_machines_conditions", lambda: conditions)
