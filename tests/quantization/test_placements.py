"""One plan, a placement for each runtime: where pairs stand, in which integers, and what the runtime makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from linglos_deploy.artifacts import OnnxArtifact, load_onnx
from linglos_deploy.backends.cpu import Int8Mode, this_cpu
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.calibration.targets import rounded_tensors
from linglos_deploy.choices import Precision
from linglos_deploy.errors import UsageError
from linglos_deploy.quantization.apply import apply_plan
from linglos_deploy.quantization.placement import (
    check_placements,
    default_placements,
    find_placement,
    placement_names,
    placement_of,
)
from linglos_deploy.quantization.plan import QuantPlan, plan_quantization
from linglos_deploy.quantization.scheme import QuantScheme
from tests.quantization.graphs import graph_of, table_for, write
from tests.quantization.residual import residual_images, residual_model

NAMES = ("tensorrt", "onnxruntime-arm", "onnxruntime-x86", "openvino", "tensorrt-residual")


def planned(model: onnx.ModelProto, images: np.ndarray, path: Path) -> tuple[OnnxArtifact, QuantPlan]:
    """Write a model with one input; calibrate it on images and plan its quantization."""
    artifact = write(model, path)
    name = model.graph.input[0].name
    wanted = [tensor for tensor in rounded_tensors(model) if tensor != name]
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in wanted)
    seen = dict(zip(wanted, ReferenceEvaluator(probe).run(None, {name: images}), strict=True))
    return artifact, plan_quantization(artifact, table_for(artifact, {name: images, **seen}), QuantScheme(narrow=True))


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> tuple[OnnxArtifact, QuantPlan, Mapping[str, OnnxArtifact]]:
    folder = tmp_path_factory.mktemp("residual")
    artifact, plan = planned(residual_model(), residual_images(), folder / "m.onnx")
    graphs = {
        name: apply_plan(artifact, plan, out=folder / f"{name}.onnx", placement=find_placement(name)) for name in NAMES
    }
    return artifact, plan, graphs


Residual = tuple[OnnxArtifact, QuantPlan, Mapping[str, OnnxArtifact]]


def rounded(artifact: OnnxArtifact) -> list[str]:
    graph = load_onnx(artifact.path).graph
    return [node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"]


def answers(artifact: OnnxArtifact, images: np.ndarray, mode: Int8Mode, name: str = "logits") -> np.ndarray:
    with OnnxRuntime(threads=1, int8=mode).open(artifact) as runner:
        return np.asarray(runner.run({"image": images})[name])


def test_placements_are_found_by_their_files() -> None:
    assert placement_names() == NAMES
    assert [find_placement(name).name for name in NAMES] == list(NAMES)
    with pytest.raises(UsageError, match="no placement 'onnxruntime-x68'") as caught:
        find_placement("onnxruntime-x68")
    assert "onnxruntime-x86" in str(caught.value)


def test_what_does_not_go_with_a_precision_is_refused() -> None:
    check_placements(default_placements(Precision.INT8), Precision.INT8)
    check_placements(default_placements(Precision.INT8_FP16), Precision.INT8_FP16)
    for names, precision in (
        (("openvino",), Precision.INT8_FP16),
        (("tensorrt",), Precision.FP16),
        (("openvino", "openvino"), Precision.INT8),
    ):
        with pytest.raises(UsageError):
            check_placements(names, precision)


def test_in_front_of_layers_nothing_else_is_rounded(residual: Residual) -> None:
    _, plan, graphs = residual
    for name in ("tensorrt", "openvino"):
        assert rounded(graphs[name]) == [decision.tensor for decision in plan.quantized_tensors]


def test_on_both_sides_results_are_rounded_behind_what_clips_them_and_once(residual: Residual) -> None:
    _, _, graphs = residual
    for name in ("onnxruntime-x86", "onnxruntime-arm"):
        assert sorted(rounded(graphs[name])) == ["c2", "f4", "image", "m3", "r0", "r1", "r2", "r3", "r4"]


def test_a_result_that_only_moves_to_a_layer_has_the_grid_that_the_layer_reads(residual: Residual) -> None:
    stored = {
        it.name: numpy_helper.to_array(it) for it in load_onnx(residual[2]["onnxruntime-x86"].path).graph.initializer
    }
    assert stored["r3/scale"] == stored["m3/scale"]
    assert stored["r3/zero_point"] == stored["m3/zero_point"] == 0  # ReLU: no step is spent below zero


def test_each_placement_has_its_own_integers_and_biases(residual: Residual) -> None:
    _, _, graphs = residual
    for name, integers, biases in (
        ("tensorrt", np.int8, 0),
        ("openvino", np.uint8, 0),
        ("onnxruntime-x86", np.uint8, 5),
        ("onnxruntime-arm", np.int8, 5),
    ):
        stored = {it.name: numpy_helper.to_array(it) for it in load_onnx(graphs[name].path).graph.initializer}
        zeros = {stored[f"{tensor}/zero_point"].dtype.type for tensor in ("image", "r0", "r2")}
        assert zeros == {integers}
        assert sum(values.dtype == np.int32 for key, values in stored.items() if key.endswith("/int32")) == biases
        assert placement_of(graphs[name].lineage) is find_placement(name)


def test_both_graphs_for_onnxruntime_have_one_grid_and_give_one_answer(residual: Residual) -> None:
    _, _, graphs = residual
    images = residual_images(5, seed=1)
    x86, arm = (answers(graphs[f"onnxruntime-{name}"], images, Int8Mode.EXACT) for name in ("x86", "arm"))
    np.testing.assert_allclose(x86, arm, rtol=0, atol=1e-6)


def test_asymmetric_grids_are_finer_than_symmetric_ones(residual: Residual) -> None:
    original, _, graphs = residual
    images = residual_images(16, seed=2)
    exact = answers(original, images, Int8Mode.EXACT)
    errors = {
        name: float(((answers(graph, images, Int8Mode.EXACT) - exact) ** 2).mean()) for name, graph in graphs.items()
    }
    assert errors["openvino"] < errors["tensorrt"]
    assert errors["onnxruntime-x86"] < 0.01 * float((exact**2).mean())


@pytest.mark.skipif(not this_cpu().int8_dot_products, reason="needs a CPU with INT8 dot products")
@pytest.mark.parametrize("mode", [Int8Mode.SAFE, Int8Mode.FAST])
def test_onnxruntime_multiplies_integers_in_every_layer_and_answers_as_exact_arithmetic_does(
    residual: Residual, mode: Int8Mode
) -> None:
    _, plan, graphs = residual
    graph = graphs["onnxruntime-x86"]
    proof = OnnxRuntime(threads=1, int8=mode).explain(graph)
    assert [node.got for node in proof.nodes] == ["int8"] * len(plan.quantized_nodes), proof.detail

    stored = {it.name: numpy_helper.to_array(it) for it in load_onnx(graph.path).graph.initializer}
    step = float(stored["f4/scale"]) * np.abs(stored["w5/int8"] * stored["w5/scale"][:, None]).max(axis=1)
    images = residual_images(16, seed=3)
    off = np.abs(answers(graph, images, mode) - answers(graph, images, Int8Mode.EXACT))
    assert (off <= step * 1.01).all()


def test_a_dead_channel_keeps_its_bias(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["a"], "conv"), helper.make_node("Gelu", ["a"], ["y"], "gelu")]
    weights = {"w": np.zeros((2, 3, 1, 1), np.float32), "b": np.array([40.0, -1.0], np.float32)}
    weights["w"][1] = 1.0
    images = 1e-3 * np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    artifact, plan = planned(graph_of(nodes, weights), images, tmp_path / "m.onnx")
    graph = apply_plan(artifact, plan, out=tmp_path / "q.onnx", placement=find_placement("onnxruntime-x86"))
    stored = {it.name: numpy_helper.to_array(it) for it in load_onnx(graph.path).graph.initializer}
    assert stored["conv/bias/int32"][0] * stored["conv/bias/scale"][0].astype(np.float64) == pytest.approx(
        40.0, rel=1e-6
    )


def test_layers_that_a_runtime_cannot_have_stay_as_they_are_and_are_told(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w0"], ["a"], "up", strides=[2, 2]),
        helper.make_node("Gelu", ["a"], ["b"], "gelu"),
        helper.make_node("Conv", ["b", "w1"], ["c"], "middle"),
        helper.make_node("Gelu", ["c"], ["d"], "gelu2"),
        helper.make_node("Conv", ["d", "w2"], ["y"], "end"),
    ]
    shapes = {"w0": (4, 4, 2, 2), "w1": (4, 4, 1, 1), "w2": (4, 4, 1, 1)}
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    images = random.normal(size=(2, 4, 3, 5)).astype(np.float32)
    artifact, plan = planned(graph_of(nodes, weights), images, tmp_path / "m.onnx")
    assert len(plan.quantized_nodes) == 3

    graph = apply_plan(artifact, plan, out=tmp_path / "q.onnx", placement=find_placement("onnxruntime-x86"))
    assert rounded(graph) == ["b", "c"]
    assert ["'up'" in graph.warnings[0], "'end'" in graph.warnings[1]] == [True, True]
    assert "no integer ConvTranspose" in graph.warnings[0]
    assert "an output of the graph" in graph.warnings[1]
    proof = OnnxRuntime(threads=1, int8=Int8Mode.SAFE).explain(graph)
    assert [(node.node, node.got) for node in proof.nodes] == [("middle", "int8")]


def test_a_sum_joins_only_where_nothing_more_is_rounded(residual: Residual, tmp_path: Path) -> None:
    assert {
        node.op_type
        for node in load_onnx(residual[2]["onnxruntime-x86"].path).graph.node
        if "r0/dequantized" in node.input
    } == {
        "Conv",
        "Add",
    }
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "one"),
        helper.make_node("Add", ["x", "a"], ["s"], "sum"),
        helper.make_node("Conv", ["s", "w"], ["b"], "two"),
        helper.make_node("Add", ["s", "b"], ["t"], "end"),
    ]
    weights = {"w": random.normal(size=(4, 4, 1, 1)).astype(np.float32)}
    images = random.normal(size=(2, 4, 3, 5)).astype(np.float32)
    artifact, plan = planned(graph_of(nodes, weights), images, tmp_path / "m.onnx")
    graph = load_onnx(
        apply_plan(artifact, plan, out=tmp_path / "q.onnx", placement=find_placement("onnxruntime-x86")).path
    )
    read = {node.name: list(node.input) for node in graph.graph.node}
    assert read["sum"] == ["x", "a/dequantized"]  # its result is read in floating point, too, by the last sum
    assert read["end"] == ["s", "b/dequantized"]


@pytest.mark.parametrize(("instructions", "kind"), [(("avx2", "avx512_vnni"), np.int8), (("avx2",), np.uint8)])
def test_the_option_against_saturation_is_set_where_a_cpu_needs_it_and_costs_no_speed_elsewhere(
    residual: Residual, monkeypatch: pytest.MonkeyPatch, instructions: tuple[str, ...], kind: type, tmp_path: Path
) -> None:
    import onnxruntime

    cpu = replace(this_cpu(), architecture="x86_64", instructions=instructions)
    monkeypatch.setattr("linglos_deploy.backends.onnxruntime.this_cpu", lambda: cpu)
    options = OnnxRuntime(threads=1, int8=Int8Mode.SAFE)._options(onnxruntime)
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(residual[2]["onnxruntime-x86"].path), options, providers=["CPUExecutionProvider"])
    optimized = onnx.load(tmp_path / "optimized.onnx")
    stored = {it.name: numpy_helper.to_array(it).dtype.type for it in optimized.graph.initializer}
    found = {stored[node.input[3]] for node in optimized.graph.node if node.op_type == "QLinearConv"}
    assert found == {kind}
