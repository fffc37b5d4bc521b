from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from linglos_deploy.artifacts import OnnxArtifact, open_onnx
from linglos_deploy.backends import registry
from linglos_deploy.errors import ArtifactError
from linglos_deploy.profiling import worker as module
from linglos_deploy.profiling.describe import describe, graph_precision
from linglos_deploy.profiling.messages import OpenRequest, Reply, Request, RoundRequest, decode, encode
from linglos_deploy.profiling.process import WorkerError, start_worker
from linglos_deploy.profiling.worker import serve
from tests.backends.graphs import affine_graph, saturating_graph
from tests.profiling import fakes

ECHO_NOTHING = (sys.executable, "-c", "import sys; sys.stdin.readline()")


def opening(onnx: OnnxArtifact, **options: object) -> Request:
    request = OpenRequest(
        backend="fake",
        options=options,
        threads=1,
        onnx=onnx,
        engine=None,
        source=None,
        batch=1,
        image_size=None,
        seed=0,
        layers=True,
    )
    return Request(open=request)


@pytest.fixture
def graph(tmp_path: Path) -> OnnxArtifact:
    return saturating_graph(tmp_path / "model.onnx")


@pytest.fixture(autouse=True)
def _fake_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BUILTIN, "fake", fakes.FACTORY)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the worker sets both for its own process
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")


def answers(*requests: Request) -> list[Reply]:
    replies = io.StringIO()
    serve([encode(request) for request in requests], replies)
    return [decode(Reply, line) for line in replies.getvalue().splitlines()]


def test_a_session_opens_runs_rounds_and_closes(graph: OnnxArtifact) -> None:
    opened, timed, closed = answers(opening(graph), Request(round=RoundRequest(runs=3, seconds=0)), Request())
    assert opened.opened is not None
    assert opened.opened.options == {"threads": "1", "behaviour": "", "pause": "0.0"}
    assert opened.opened.notes == ("a fake",)
    assert timed.round is not None
    assert len(timed.round.samples_ms) == 3
    assert min(timed.round.samples_ms) >= 0
    assert closed.closed is not None
    assert closed.closed.peak_rss_bytes > 1 << 20


def test_a_round_lasts_as_long_as_asked_for(graph: OnnxArtifact) -> None:
    _, timed = answers(opening(graph, pause=0.01), Request(round=RoundRequest(runs=1, seconds=0.1)))
    assert timed.round is not None
    assert len(timed.round.samples_ms) > 1
    assert sum(timed.round.samples_ms) >= 90


def test_a_failure_is_the_last_reply(graph: OnnxArtifact) -> None:
    replies = answers(opening(graph, behaviour="raise"), Request())
    assert len(replies) == 1
    assert replies[0].failure is not None
    assert "exploded" in replies[0].failure.message


def test_a_line_that_is_no_request_is_a_failure() -> None:
    replies = io.StringIO()
    serve(["{"], replies)
    failure = decode(Reply, replies.getvalue()).failure
    assert failure is not None
    assert "profiling message" in failure.message


def test_peak_memory_falls_back_to_the_process_accounting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STATUS", Path("/nonexistent"))
    assert module.peak_rss() > 1 << 20


def test_a_worker_that_says_nothing_is_stopped() -> None:
    with start_worker((sys.executable, "-c", "import time; time.sleep(60)")) as worker:
        with pytest.raises(WorkerError, match="no answer within"):
            worker.ask(Request(), timeout=0.5)
        process = worker.process
    assert process.returncode == -9


def test_a_worker_that_ends_early_says_how(graph: OnnxArtifact) -> None:
    with start_worker(ECHO_NOTHING) as worker:
        with pytest.raises(WorkerError, match="exit code 0"):
            worker.ask(Request(), timeout=20)
        with pytest.raises(WorkerError, match="crashed"):
            worker.ask(Request(), timeout=20)
    dying = (sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with start_worker(dying) as worker, pytest.raises(WorkerError, match="killed by signal 11"):
        worker.ask(Request(), timeout=20)


def test_an_answer_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linglos_deploy.profiling.process.MAX_REPLY_BYTES", 1000)
    endless = (sys.executable, "-c", "print('x' * 10000, end='', flush=True); input()")
    with start_worker(endless) as worker, pytest.raises(WorkerError, match="longer than"):
        worker.ask(Request(), timeout=20)


def test_descriptions_tell_the_precision_of_a_graph(graph: OnnxArtifact, tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    assert describe(graph.path).precision == "int8"
    assert describe(affine_graph(tmp_path / "float.onnx").path).precision == "fp32"
    assert describe(graph.path).artifact == open_onnx(graph.path)
    for kind, name in ((TensorProto.FLOAT16, "fp16"), (TensorProto.BFLOAT16, "bf16")):
        weights = helper.make_tensor("w", kind, [2], [1.0, 2.0])
        nodes = [helper.make_node("Identity", ["w"], ["y"])]
        half = helper.make_model(helper.make_graph(nodes, "half", [], [], [weights]))
        assert graph_precision(half) == name
        half.graph.node.append(helper.make_node("DequantizeLinear", ["q", "s"], ["d"]))
        assert graph_precision(half) == f"int8+{name}"
    assert isinstance(half, onnx.ModelProto)


def test_an_engine_without_its_sidecar_cannot_be_described(tmp_path: Path) -> None:
    (tmp_path / "m.engine").write_bytes(b"plan")
    with pytest.raises(ArtifactError, match="no sidecar"):
        describe(tmp_path / "m.engine")
