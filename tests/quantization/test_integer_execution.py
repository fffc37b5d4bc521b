"""What a runtime really does with the graph: OpenVINO keeps a layer in floating point without a word."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.artifacts import OnnxArtifact, TorchModel
from linglos_deploy.backends.cpu import this_cpu
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.calibration.calibrate import calibrate
from linglos_deploy.choices import Weights
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.export import export_onnx
from linglos_deploy.images.dataset import open_dataset
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.models.linglo import LinGlo
from linglos_deploy.models.variants import LinGloConfig
from linglos_deploy.quantization.apply import apply_plan
from linglos_deploy.quantization.plan import QuantPlan, plan_quantization
from linglos_deploy.quantization.scheme import QuantScheme
from tests.quantization.graphs import write

openvino = pytest.importorskip("openvino", reason="OpenVINO is missing: pip install 'linglos-deploy[openvino]'")
pytestmark = pytest.mark.skipif(not this_cpu().int8_dot_products, reason="needs a CPU with INT8 dot products")

LAYERS = {"Convolution", "Deconvolution", "FullyConnected", "MatMul"}
CHANNELS = 16


def twin_model() -> onnx.ModelProto:
    """Convolutions of one width, so that zero points of one shape could be shared; ``image`` is N x 3 x 8 x 8."""
    random = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(random.normal(size=shape).astype(np.float32) / 4, name)

    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["a"], "stem", pads=[1] * 4),
        helper.make_node("Gelu", ["a"], ["ga"], "ga"),
        helper.make_node("Conv", ["ga", "w1"], ["b"], "depthwise", pads=[1] * 4, group=CHANNELS),
        helper.make_node("Gelu", ["b"], ["gb"], "gb"),
        helper.make_node("Conv", ["gb", "w2"], ["c"], "pointwise"),
        helper.make_node("Gelu", ["c"], ["gc"], "gc"),
        helper.make_node("ConvTranspose", ["gc", "w3"], ["d"], "up", strides=[2, 2]),
        helper.make_node("Gelu", ["d"], ["gd"], "gd"),
        helper.make_node("GlobalAveragePool", ["gd"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["vector"], "flat"),
        helper.make_node("Gemm", ["vector", "w4"], ["y"], "head", transB=1),
    ]
    weights = [
        weight("w0", CHANNELS, 3, 3, 3),
        weight("w1", CHANNELS, 1, 3, 3),
        weight("w2", CHANNELS, CHANNELS, 1, 1),
        weight("w3", CHANNELS, CHANNELS, 2, 2),
        weight("w4", CHANNELS, CHANNELS),
    ]
    graph = helper.make_graph(
        nodes,
        "twins",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", CHANNELS])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def layer_precisions(graph: OnnxArtifact, shape: Iterable[int]) -> dict[str, list[str]]:
    """Return the element types in which OpenVINO multiplies, by kind of layer, for a fixed input shape."""
    core = openvino.Core()
    model = core.read_model(str(graph.path))
    model.reshape(list(shape))
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    found: dict[str, list[str]] = {}
    for node in compiled.get_runtime_model().get_ordered_ops():
        told = {key: node.get_rt_info()[key].astype(str) for key in ("layerType", "runtimePrecision")}
        if told["layerType"] in LAYERS:
            found.setdefault(told["layerType"], []).append(told["runtimePrecision"])
    return found


def quantized(model: OnnxArtifact, images: np.ndarray, folder: Path) -> tuple[OnnxArtifact, QuantPlan]:
    np.save(folder / "images.npy", images)
    dataset = open_dataset(folder / "images.npy", PreprocessSpec(input_size=images.shape[2:]))
    table = calibrate(model, dataset, runtime=OnnxRuntime(threads=1))
    plan = plan_quantization(model, table, QuantScheme())
    return apply_plan(model, plan, out=folder / "q.onnx"), plan


def test_openvino_multiplies_integers_in_every_layer_that_was_planned(tmp_path: Path) -> None:
    artifact = write(twin_model(), tmp_path / "m.onnx")
    images = np.random.default_rng(1).normal(size=(8, 3, 8, 8)).astype(np.float32)
    graph, plan = quantized(artifact, images, tmp_path)

    assert len(plan.quantized_nodes) == 5
    kinds = [kind for precisions in layer_precisions(graph, (1, 3, 8, 8)).values() for kind in precisions]
    assert len(kinds) == 5
    assert set(kinds) <= {"i8", "u8"}


@pytest.mark.slow
def test_openvino_multiplies_integers_in_every_planned_layer_of_a_small_linglo(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = LinGloConfig(dims=(16, 32, 48, 64), depths=(1, 1, 1, 1), num_classes=10)
    source = TorchModel(
        module=LinGlo(config).eval(),
        name="tiny",
        output_names=("logits",),
        preprocess=PreprocessSpec(input_size=(64, 64)),
        labels=(),
        size_divisor=32,
        digest="5" * 64,
        weights=Weights.RANDOM,
        lineage=(),
    )
    model = export_onnx(source, ExportConfig(), out=tmp_path / "m.onnx")
    images = np.random.default_rng(1).normal(size=(8, 3, 64, 64)).astype(np.float32)
    graph, plan = quantized(model, images, tmp_path)

    found = layer_precisions(graph, (1, 3, 64, 64))
    convolutions = [node for node in plan.quantized_nodes if node.op_type == "Conv"]
    assert found["Convolution"].count("u8") + found["Convolution"].count("i8") == len(convolutions) >= 20
    integer = sum(kind in {"i8", "u8"} for precisions in found.values() for kind in precisions)
    assert integer == len(plan.quantized_nodes)
