from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linglos_deploy.artifacts import EngineArtifact
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.backends.operators import mean_times, read_onnxruntime_trace
from tests.backends.graphs import saturating_graph

runs = st.lists(st.lists(st.tuples(st.sampled_from(["Conv", "Gelu", "Add"]), st.floats(0.001, 10))), min_size=1)


def test_times_are_means_over_runs_with_the_largest_first() -> None:
    first = [("Add", 1.0), ("Conv", 2.0), ("Conv", 3.0)]
    conv, add = mean_times([first, [("Add", 2.0), ("Conv", 5.0), ("Conv", 2.0)]])
    assert (conv.operator, conv.calls, conv.milliseconds, conv.share) == ("Conv", 2, 6.0, 0.8)
    assert (add.operator, add.calls, add.milliseconds, add.share) == ("Add", 1, 1.5, 0.2)


@given(runs)
def test_shares_add_up_to_one_and_fall(measured: list[list[tuple[str, float]]]) -> None:
    found = mean_times(measured)
    assert sum(entry.share for entry in found) == pytest.approx(1 if found else 0)
    assert list(found) == sorted(found, key=lambda entry: -entry.milliseconds)


def test_a_trace_is_split_into_runs_and_other_events_are_left_out(tmp_path: Path) -> None:
    node = {"cat": "Node", "name": "c_kernel_time", "dur": 1500, "args": {"op_name": "Conv"}}
    fence = {"cat": "Node", "name": "c_fence_before", "dur": 7, "args": {"op_name": "Conv"}}
    end = {"cat": "Session", "name": "model_run", "dur": 2000}
    trace = tmp_path / "trace.json"
    trace.write_text(json.dumps([fence, node, end, node, node, end]))
    assert list(read_onnxruntime_trace(trace)) == [[("Conv", 1.5)], [("Conv", 1.5), ("Conv", 1.5)]]


def test_onnx_runtime_tells_its_times_and_leaves_no_file_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = saturating_graph(tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    found = OnnxRuntime(threads=1).operator_times(graph, {"x": np.ones((1, 64, 4, 4), np.float32)}, runs=2)
    conv = next(entry for entry in found if entry.operator == "Conv")
    assert conv.calls == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_there_are_no_times_for_what_onnx_runtime_does_not_run(tmp_path: Path) -> None:
    graph = saturating_graph(tmp_path / "model.onnx")
    engine = EngineArtifact(graph.path, graph.signature, graph.digest, "tensorrt", {})
    assert OnnxRuntime().operator_times(engine, {}, runs=1) == ()
