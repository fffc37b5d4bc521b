from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linglos_deploy.artifacts import EngineArtifact, TorchModel, open_onnx
from linglos_deploy.backends import registry
from linglos_deploy.backends.base import LayerTimer
from linglos_deploy.backends.layers import Executed, layer_profile, read_onnxruntime_trace
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.backends.pytorch import PyTorch
from linglos_deploy.errors import RunError
from linglos_deploy.models.loading import ModelSource, load_model
from tests.backends.graphs import saturating_graph
from tests.conftest import Shipped

steps = st.lists(
    st.builds(Executed, st.sampled_from(["a/Conv", "b.c/Add"]), st.just("Op"), st.just(""), st.floats(0.001, 10)),
    min_size=1,
)


def step(name: str, milliseconds: float = 1.0, *, operator: str = "Op") -> Executed:
    return Executed(name, operator, "float32", milliseconds)


def test_times_are_means_over_the_quieter_half_of_the_runs_and_add_up_as_the_latency_does() -> None:
    runs = [[step("a/Conv", times[0]), step("b/Add", times[1])] for times in ((90, 4), (1, 3), (50, 3), (2, 4))]
    found = layer_profile(runs, [95, 5, 60, 7], nodes=["a/Conv", "b/Add"])
    conv, add = found.layers
    assert (conv.layer, conv.module, conv.milliseconds, conv.share) == ("a/Conv", "a", 1.5, 0.3)
    assert (add.layer, add.module, add.milliseconds, add.share) == ("b/Add", "b", 3.5, 0.7)
    assert (found.latency_ms, found.accounted) == (6, 5 / 6)


def test_a_layer_that_runs_twice_is_two_layers_and_a_run_of_other_steps_is_left_out() -> None:
    found = layer_profile([[step("a/Conv", 1), step("a/Conv", 5)], [step("a/Conv", 100)]], [6, 100])
    assert [layer.milliseconds for layer in found.layers] == [1, 5]


def test_a_profiler_that_says_nothing_is_an_error() -> None:
    for runs in ([], [[]]):
        with pytest.raises(RunError, match="did not say what was executed"):
            layer_profile(runs, [1.0] * len(runs))


@given(steps)
def test_shares_add_up_to_one(run: list[Executed]) -> None:
    assert sum(layer.share for layer in layer_profile([run], [1.0]).layers) == pytest.approx(1)


def test_what_a_runtime_fuses_renames_or_puts_in_belongs_to_a_module() -> None:
    nodes = ["stem.0/Conv", "body.1.gate/MatMul", "body.1/Add", "body.1/Add_1", ""]
    names = {
        "ReorderInput": "stem.0",  # the next step needs it
        "stem.0/Conv_nchwc": "stem.0",
        "body.1.gate/MatMul/MatmulTransposeFusion/": "body.1.gate",
        "stem.0/Conv_abcd_acdb_body.1/Add_1": "body.1",  # a change of layout between the two
        "Reorder_token_7": "body.1",  # nothing follows
    }
    found = layer_profile([[step(name) for name in names]], [9.0], nodes=nodes)
    assert {layer.layer: layer.module for layer in found.layers} == names


def test_a_trace_is_split_into_runs_and_other_events_are_left_out(tmp_path: Path) -> None:
    arguments = {"op_name": "Conv", "input_type_shape": [{"float": [1, 2]}, {"int8": [3]}]}
    node = {"cat": "Node", "name": "c_kernel_time", "dur": 1500, "args": arguments}
    fence = {"cat": "Node", "name": "c_fence_before", "dur": 7, "args": {"op_name": "Conv"}}
    end = {"cat": "Session", "name": "model_run", "dur": 2000}
    trace = tmp_path / "trace.json"
    trace.write_text(json.dumps([fence, node, end, node, node, end]))
    conv = Executed("c", "Conv", "float32", 1.5)
    assert list(read_onnxruntime_trace(trace)) == [[conv], [conv, conv]]


def test_onnx_runtime_tells_its_times_and_leaves_no_file_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = saturating_graph(tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    found = OnnxRuntime(threads=1).layer_times(graph, {"x": np.ones((1, 64, 4, 4), np.float32)}, runs=2)
    assert found is not None
    assert [layer.operator for layer in found.layers].count("Conv") == 1
    assert found.accounted > 0
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_there_are_no_times_for_what_a_runtime_does_not_run(tmp_path: Path) -> None:
    graph = saturating_graph(tmp_path / "model.onnx")
    engine = EngineArtifact(graph.path, graph.signature, graph.digest, "tensorrt", {})
    assert OnnxRuntime().layer_times(engine, {}, runs=1) is None
    assert PyTorch().layer_times(graph, {}, runs=1) is None


@pytest.fixture(scope="module")
def small() -> TorchModel:
    return load_model(ModelSource(variant="t", image_size=(32, 32)))


def test_pytorch_tells_the_module_of_every_operator_and_leaves_no_hook_behind(small: TorchModel) -> None:
    found = PyTorch().layer_times(small, {"image": np.ones((2, 3, 32, 32), np.float32)}, runs=2)
    assert found is not None
    known = {name for name, _ in small.module.named_modules()}
    assert {layer.module for layer in found.layers} <= known
    convolutions = [layer for layer in found.layers if "conv" in layer.operator]
    assert len({layer.module for layer in convolutions}) > 10
    assert sum(layer.share for layer in found.layers) == pytest.approx(1)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in small.module.modules())


@pytest.mark.xdist_group("shipped")
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_every_layer_of_an_exported_network_has_a_module_of_the_network(name: str, shipped: Shipped) -> None:
    backend = registry.runtime(name, threads=1)
    assert isinstance(backend, LayerTimer)
    graph = open_onnx(shipped.bundle / "model.onnx")
    network = load_model(ModelSource(checkpoint=shipped.checkpoint))
    size = network.preprocess.input_size if network.preprocess is not None else (32, 32)
    found = backend.layer_times(graph, {"image": np.ones((1, 3, *size), np.float32)}, runs=2)
    assert found is not None
    # A decomposition of the attention names the part that it adds beneath the attention.
    known = {module for module, _ in network.module.named_modules()}
    unknown = {layer.module for layer in found.layers} - known
    assert all(name.endswith(".context") and name.removesuffix(".context") in known for name in unknown), unknown
    assert "" not in {layer.module for layer in found.layers}
    assert {layer.dtype for layer in found.layers} >= {"float32"}
