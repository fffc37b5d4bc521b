from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.artifacts import OnnxArtifact, load_onnx
from linglos_deploy.backends.onnxruntime import Int8Mode, OnnxRuntime
from linglos_deploy.calibration.probe import activation_probe
from linglos_deploy.calibration.registry import builtin_methods
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.calibration.targets import quantizable_activations
from linglos_deploy.choices import Precision
from linglos_deploy.errors import QuantizationError
from linglos_deploy.exporters.precision import convert_precision
from linglos_deploy.graph.passes.running import run_passes
from linglos_deploy.parity.metrics import compare
from linglos_deploy.quantization.apply import apply_plan
from linglos_deploy.quantization.placement import DEFAULT, find_placement
from linglos_deploy.quantization.plan import QuantPlan, plan_quantization
from linglos_deploy.quantization.qdq import InsertQdq
from linglos_deploy.quantization.scheme import QuantScheme
from tests.quantization.graphs import (
    attention_model,
    branching_model,
    calibrated,
    graph_of,
    images,
    table_for,
    write,
)

Case = tuple[OnnxArtifact, CalibrationTable]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return calibrated(attention_model(), tmp_path_factory.mktemp("apply") / "m.onnx")


def plan(case: Case, **options: object) -> QuantPlan:
    return plan_quantization(*case, QuantScheme(narrow=True, **options))  # type: ignore[arg-type]


def run(artifact: OnnxArtifact, *, int8: Int8Mode = Int8Mode.EXACT, seed: int = 1) -> np.ndarray:
    dtype = np.dtype(artifact.signature.inputs[0].dtype)
    with OnnxRuntime(threads=1, int8=int8).open(artifact) as runner:
        outputs = runner.run({"image": images(32, seed=seed).astype(dtype)})
    return np.array(next(iter(outputs.values())), np.float32)


def linear_inputs(model: onnx.ModelProto) -> dict[str, tuple[str, str]]:
    """Operators that make the data and the weight of each convolution and linear layer, by node name."""
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    return {
        node.name: (makers.get(node.input[0], "input"), makers.get(node.input[1], "initializer"))
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul")
    }


@pytest.mark.parametrize("method", builtin_methods())
@pytest.mark.parametrize("weight_bits", [7, 8])
def test_int8_stays_close_to_float(case: Case, tmp_path: Path, method: str, weight_bits: int) -> None:
    quantized = apply_plan(
        case[0], plan(case, method=method, weight_bits=weight_bits, percentile=100), out=tmp_path / "q.onnx"
    )
    found = compare(run(case[0]), run(quantized))

    assert found.cosine > 0.995
    assert found.max_abs > 0  # it was quantized


def test_exactly_the_planned_nodes_read_int8(case: Case, tmp_path: Path) -> None:
    quantized = apply_plan(case[0], plan(case, exclude=("n13",)), out=tmp_path / "q.onnx")
    found = linear_inputs(load_onnx(quantized.path))

    pair = ("DequantizeLinear", "DequantizeLinear")
    assert {node for node, makers in found.items() if makers == pair} == {"n0", "n2", "n3", "n8", "n17", "n18"}
    assert found["n4"] == ("Conv", "initializer")
    assert found["n13"] == ("Mul", "initializer")


def test_a_shared_tensor_is_quantized_once_and_others_read_it_unrounded(case: Case, tmp_path: Path) -> None:
    model = load_onnx(apply_plan(case[0], plan(case), out=tmp_path / "q.onnx").path)
    readers = {node.name: node for node in model.graph.node if "x" in node.input}

    assert sorted(readers) == ["n14", "n4", "x/QuantizeLinear"]
    (dequantized,) = (node.output[0] for node in model.graph.node if node.name == "x/DequantizeLinear")
    assert [node.name for node in model.graph.node if dequantized in node.input] == ["n3", "n8"]


def test_weights_are_int8_with_one_scale_per_output_channel_and_zero_points_of_zero(case: Case, tmp_path: Path) -> None:
    model = load_onnx(apply_plan(case[0], plan(case, weight_bits=7), out=tmp_path / "q.onnx").path)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    weights = [node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in stored]

    assert {node.input[0]: node.attribute[0].i for node in weights}["wm/int8"] == 1
    for node in weights:
        integers, scales, zeros = (stored[name] for name in node.input)
        assert integers.dtype == zeros.dtype == np.int8
        assert scales.shape == zeros.shape == (integers.shape[node.attribute[0].i],)
        assert np.abs(integers).max() == 63
        assert not zeros.any()
    assert not {"w0", "w1", "wk", "wv", "wo", "wm", "wh"} & stored.keys()
    assert {"wg", "b0", "bk", "bh"} <= stored.keys()  # the gate and all biases stay


def test_the_same_plan_gives_the_same_bytes_also_after_its_file(case: Case, tmp_path: Path) -> None:
    made = plan(case)
    made.save(tmp_path / "plan.json")
    first = apply_plan(case[0], made, out=tmp_path / "a.onnx")
    second = apply_plan(case[0], QuantPlan.load(tmp_path / "plan.json"), out=tmp_path / "b.onnx")

    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.lineage == second.lineage


def test_a_plan_that_excludes_everything_leaves_the_function_as_it_is(case: Case, tmp_path: Path) -> None:
    same = apply_plan(case[0], plan(case, exclude=(".*",)), out=tmp_path / "q.onnx")

    np.testing.assert_array_equal(run(same), run(case[0]))
    assert same.path.stat().st_size == case[0].path.stat().st_size


def test_the_lineage_tells_graph_plan_and_scheme(case: Case, tmp_path: Path) -> None:
    (step,) = apply_plan(case[0], plan(case, weight_bits=7), out=tmp_path / "q.onnx").lineage

    assert step.stage == "quantize"
    assert step.inputs["graph"] == case[0].digest
    assert step.config["weight_bits"] == 7
    assert "onnx" in step.tools


def test_every_tensor_that_stays_keeps_its_name(case: Case, tmp_path: Path) -> None:
    before, after = load_onnx(case[0].path), load_onnx(apply_plan(case[0], plan(case), out=tmp_path / "q.onnx").path)
    names = [{name for node in model.graph.node for name in node.output} for model in (before, after)]
    assert names[0] < names[1]


def test_a_plan_of_another_graph_is_refused(case: Case, tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="another graph"):
        apply_plan(case[0], replace(plan(case), graph_digest="0" * 64), out=tmp_path / "q.onnx")
    assert not (tmp_path / "q.onnx").exists()


def test_a_plan_that_names_a_missing_node_is_refused(case: Case) -> None:
    made = plan(case)
    model = load_onnx(case[0].path)
    stranger = replace(made.nodes[0], node="ghost", output="nowhere")
    with pytest.raises(QuantizationError, match="'ghost'"):
        run_passes(model, InsertQdq(replace(made, nodes=(*made.nodes, stranger)), find_placement(DEFAULT)))


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path) -> None:
    model = graph_of(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "linear")], {"w": np.array([[np.nan]], np.float32)}, rank=2
    )
    artifact = write(model, tmp_path / "m.onnx")
    made = plan((artifact, table_for(artifact, {"x": np.ones((1, 1))})))
    with pytest.raises(QuantizationError, match="'w' holds NaN"):
        apply_plan(artifact, made, out=tmp_path / "q.onnx")


def test_a_weight_that_two_nodes_share_is_stored_once_per_channel_axis(tmp_path: Path) -> None:
    w = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    model = graph_of(
        [
            helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
            helper.make_node("MatMul", ["a", "w"], ["b"], "second"),
            helper.make_node("Gemm", ["b", "w"], ["c"], "tied", transB=1),
            helper.make_node("Add", ["c", "w"], ["y"], "float_reader"),
        ],
        {"w": w},
        rank=2,
    )
    x = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
    artifact = write(model, tmp_path / "m.onnx")
    table = table_for(artifact, {"x": x, "a": x @ w, "b": x @ w @ w})
    quantized = apply_plan(artifact, plan((artifact, table), method="absmax"), out=tmp_path / "q.onnx")

    after = load_onnx(quantized.path)
    names = {tensor.name for tensor in after.graph.initializer}
    assert {"w", "w/int8", "w/int8_2"} <= names
    assert sum(node.op_type == "DequantizeLinear" and "w/int8" in node.input[0] for node in after.graph.node) == 2
    with OnnxRuntime(threads=1).open(quantized) as runner:
        found = runner.run({"x": x})["y"]
    assert compare(x @ w @ w @ w.T + w, found).sqnr_db > 25


def test_names_that_are_taken_are_left_alone(tmp_path: Path) -> None:
    model = graph_of(
        [
            helper.make_node("Identity", ["x"], ["a/int8"], "a/QuantizeLinear"),
            helper.make_node("Identity", ["a/int8"], ["a"], "quantization/zero_point"),
            helper.make_node("MatMul", ["a", "w"], ["y"], "n"),
        ],
        {"w": np.eye(2, dtype=np.float32)},
        rank=2,
    )
    artifact = write(model, tmp_path / "m.onnx")
    x = np.array([[1.0, -0.5]], np.float32)
    made = plan((artifact, table_for(artifact, {"a": x})), method="absmax")
    with OnnxRuntime(threads=1).open(apply_plan(artifact, made, out=tmp_path / "q.onnx")) as runner:
        np.testing.assert_allclose(runner.run({"x": x})["y"], x, atol=1 / 127)


def test_a_float16_graph_gets_float16_scales(tmp_path: Path) -> None:
    case = calibrated(attention_model(element=TensorProto.FLOAT16), tmp_path / "m.onnx")
    quantized = apply_plan(case[0], plan(case), out=tmp_path / "q.onnx")
    scales = [tensor for tensor in load_onnx(quantized.path).graph.initializer if tensor.name.endswith("/scale")]

    assert {tensor.data_type for tensor in scales} == {TensorProto.FLOAT16}
    assert compare(run(case[0]), run(quantized)).cosine > 0.995


def test_a_graph_that_becomes_float16_later_keeps_its_grid_to_the_bit(case: Case, tmp_path: Path) -> None:
    quantized = apply_plan(case[0], plan(case, floating=Precision.FP16), out=tmp_path / "q.onnx")
    half = convert_precision(quantized, Precision.INT8_FP16, out=tmp_path / "half.onnx")
    before, after = (
        {tensor.name: numpy_helper.to_array(tensor) for tensor in load_onnx(each.path).graph.initializer}
        for each in (quantized, half)
    )
    scales = [name for name in before if name.endswith("/scale")]
    assert len(scales) == 13
    for name in scales:
        assert before[name].dtype == np.float32
        np.testing.assert_array_equal(before[name], after[name].astype(np.float32))


def test_weights_around_a_millionth_keep_their_digits_in_a_float32_graph(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    w = (random.normal(size=(64, 64)) * 1e-6).astype(np.float32)
    model = graph_of([helper.make_node("MatMul", ["x", "w"], ["y"], "linear")], {"w": w}, rank=2)
    x = random.normal(size=(64, 64)).astype(np.float32)
    artifact = write(model, tmp_path / "m.onnx")
    quantized = apply_plan(artifact, plan((artifact, table_for(artifact, {"x": x}))), out=tmp_path / "q.onnx")
    with OnnxRuntime(threads=1).open(quantized) as runner:
        assert compare(x @ w, np.array(runner.run({"x": x})["y"])).sqnr_db > 36


def test_an_opset_without_the_operators_is_refused(tmp_path: Path) -> None:
    model = attention_model(element=TensorProto.FLOAT16)
    case = calibrated(model, tmp_path / "m.onnx")
    made = plan(case)
    for opset, version in ((12, 20), (18, 20)):
        old = onnx.ModelProto()
        old.CopyFrom(model)
        old.opset_import[0].version = opset
        with pytest.raises(QuantizationError, match="opset") as caught:
            run_passes(old, InsertQdq(made, find_placement(DEFAULT)))
        assert str(opset) in (caught.value.found or "")
        assert f"--opset {version}" in (caught.value.next_step or "")


def upsampling_model(group: int) -> onnx.ModelProto:
    """A transposed convolution in groups between two convolutions; ``image`` is N x 3 x 4 x 4, ``y`` N x 4 x 8 x 8."""
    random = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        spread = 3.0 ** np.arange(shape[1]).reshape(1, -1, 1, 1)  # channels of very different size
        return numpy_helper.from_array((random.normal(size=shape) * spread).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["a"], "stem"),
        helper.make_node("ConvTranspose", ["a", "w1", "b1"], ["b"], "up", strides=[2, 2], group=group),
        helper.make_node("Conv", ["b", "w2"], ["y"], "last"),
    ]
    weights = [
        weight("w0", 4, 3, 1, 1),
        weight("w1", 4, 4 // group, 2, 2),
        numpy_helper.from_array(np.ones(4, np.float32), "b1"),
        weight("w2", 4, 4, 1, 1),
    ]
    graph = helper.make_graph(
        nodes,
        "up",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, 8, 8])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def calibrated_on_ort(model: onnx.ModelProto, path: Path, feeds: dict[str, np.ndarray]) -> Case:
    """Write a model; return it with the table of what its data inputs hold, found with ONNX Runtime."""
    artifact = write(model, path)
    wanted = quantizable_activations(model)
    probe = activation_probe(model, [name for name in wanted if name not in feeds], out=path.with_suffix(".probe.onnx"))
    with OnnxRuntime(threads=1).open(probe.graph) as runner:
        seen = {name: np.array(values) for name, values in runner.run(feeds).items()}
    return artifact, table_for(artifact, {**seen, **{name: feeds[name] for name in wanted if name in feeds}})


@pytest.mark.parametrize("group", [1, 2, 4])
def test_a_transposed_convolution_has_a_scale_for_each_of_its_second_axis(tmp_path: Path, group: int) -> None:
    case = calibrated_on_ort(upsampling_model(group), tmp_path / "m.onnx", {"image": images()})
    made = plan(case)
    assert [(node.node, node.quantize, node.weight_axis) for node in made.nodes] == [
        ("stem", True, 0),
        ("up", True, 1),
        ("last", True, 0),
    ]
    quantized = apply_plan(case[0], made, out=tmp_path / "q.onnx")
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in load_onnx(quantized.path).graph.initializer}
    assert stored["w1/scale"].shape == (4 // group,)
    assert compare(run(case[0]), run(quantized)).sqnr_db > 20


def test_layers_in_bodies_of_control_flow_stay_as_they_are(tmp_path: Path) -> None:
    """Their weight is one that layers outside read in INT8, and so is their input."""
    x = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    ask = np.array(True)
    case = calibrated_on_ort(branching_model(), tmp_path / "m.onnx", {"x": x, "ask": ask})
    made = plan(case)
    assert {node.node for node in made.nodes if node.quantize} == {"before", "after"}
    assert "body of 'choose'" in next(node.reason for node in made.nodes if node.node == "nested")

    quantized = apply_plan(case[0], made, out=tmp_path / "q.onnx")
    bodies = [attribute.g for node in load_onnx(quantized.path).graph.node for attribute in node.attribute]
    assert sum(node.op_type == "MatMul" and "w" in node.input for body in bodies for node in body.node) == 2
    for answer in (True, False):
        feeds = {"x": x, "ask": np.array(answer)}
        with OnnxRuntime(threads=1).open(case[0]) as before, OnnxRuntime(threads=1).open(quantized) as after:
            assert compare(np.array(before.run(feeds)["y"]), np.array(after.run(feeds)["y"])).sqnr_db > 20


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="needs TensorRT-RTX: pip install tensorrt-rtx-cu13"
)
@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.FLOAT16, "groups of two", "groups of four"])
def test_tensorrt_rtx_builds_an_engine_of_it(tmp_path: Path, element: int | str) -> None:
    import tensorrt_rtx as trt

    if isinstance(element, str):
        model = upsampling_model(2 if element == "groups of two" else 4)
        case = calibrated_on_ort(model, tmp_path / "m.onnx", {"image": images()})
    else:
        case = calibrated(attention_model(element=element), tmp_path / "m.onnx")
    quantized = apply_plan(case[0], plan(case), out=tmp_path / "q.onnx")
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    assert parser.parse_from_file(str(quantized.path)), [str(parser.get_error(i)) for i in range(parser.num_errors)]
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape("image", (1, 3, 4, 4), (2, 3, 4, 4), (4, 3, 4, 4))
    config.add_optimization_profile(profile)

    assert builder.build_serialized_network(network, config) is not None
