"""What a graph asks of its layers, and what the inspector's JSON proves of them. The JSON is in the vendor's shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.artifacts import OnnxArtifact, load_onnx
from linglos_deploy.backends.asked import AskedLayer, asked_layers
from linglos_deploy.backends.trt.precision import expected_precisions, read_inspector, require_precisions
from linglos_deploy.errors import BuildError
from tests.backends.trt.trt_graphs import PRECISIONS, save_convnet, save_graph

TYPES = {
    "int8": ("Thirty-two wide channel vectorized row major Int8 format", ("kCHW32", "Int8")),
    "uint8": ("Row major linear UInt8", ("Row major linear", "UInt8")),
    "float16": ("Half", ("Row major linear", "Half")),
    "float32": ("Row major linear FP32", ("Row major linear", "Float")),
    "bfloat16": ("Row major linear BF16 format", ("Row major linear", "BFloat16")),
}
CONV = AskedLayer("stem/Conv", "Conv", "int8", 1)


def tensor(kind: str, release: int) -> dict[str, str]:
    old, (format_, dtype) = TYPES[kind]
    return {"Format/Datatype": old} if release == 10 else {"Format": format_, "DataType": dtype}


def layer(name: str, kind: str, reads: str, writes: str, *nodes: str, release: int = 10, **more: Any) -> dict[str, Any]:
    return {
        "Name": name,
        "LayerType": kind,
        "Inputs": [tensor(word, release) for word in reads.split()],
        "Outputs": [tensor(writes, release)],
        "Metadata": "\x1f".join(f"[ONNX Layer: {node}]" for node in nodes),
        **more,
    }


def inspect(*layers: dict[str, Any]) -> str:
    return json.dumps({"Layers": list(layers), "Bindings": []})


INT8_CONV: dict[str, Any] = {"Weights": {"Type": "Int8", "Count": 216}, "TacticName": "sm80_xmma_fprop_i8i8_i8i32_f32"}
QUANTIZE = layer("q", "Quantize", "float32", "int8", "image/Quantize")
DEQUANTIZE = layer("dq", "Dequantize", "int8", "float32", "image/Dequantize")


@pytest.mark.parametrize("release", [10, 11])
def test_a_fused_convolution_is_int8_in_both_inspector_formats(release: int) -> None:
    name = "stem/Conv + stem/Relu"
    fused = layer(name, "CaskConvolution", "int8", "float16", "stem/Conv", release=release, **INT8_CONV)
    head = layer("head", "gemm", "float16", "float32", "head/Gemm", release=release)
    copy = layer("copy", "Reformat", "float32", "int8", release=release)
    asked = (CONV, AskedLayer("head/Gemm", "Gemm", "float16", 1))
    proof = read_inspector(inspect(copy, fused, head), asked, {name: 3.0, "head": 1.0})
    assert proof.inspected
    assert [(node.node, node.got) for node in proof.nodes] == [("stem/Conv", "int8"), ("head/Gemm", "float16")]
    assert (proof.layers, proof.reformat_layers, proof.missing) == ({"int8": 1, "float16": 1}, 1, ())
    assert proof.time_share == {"int8": 0.75, "float16": 0.25}
    assert proof.detail.startswith("int8 was asked for 1 layers, 1 have it; float16 was asked for 1 layers, 1 have it;")
    require_precisions(proof)


UNFUSED = {
    "quantize, dequantize, float convolution": (
        QUANTIZE,
        DEQUANTIZE,
        layer("stem/Conv", "CaskConvolution", "float32", "float32", "stem/Conv"),
    ),
    "dequantize and float convolution say whose they are": (
        QUANTIZE,
        layer("dq", "Dequantize", "int8", "float32", "image/Dequantize", "stem/Conv"),
        layer("x", "CaskConvolution", "float32", "float32", "stem/Conv"),
    ),
    "integers come in, the weights are floats": (
        QUANTIZE,
        layer("x", "CaskConvolution", "int8", "float32", "stem/Conv", Weights={"Type": "Float", "Count": 216}),
    ),
    "bytes of an image": (
        layer("cast", "Cast", "uint8", "float32", "image/Cast"),
        layer("x", "CaskConvolution", "float32", "float32", "stem/Conv"),
    ),
}


@pytest.mark.parametrize("case", UNFUSED)
def test_what_is_not_fused_does_not_count_as_int8(case: str) -> None:
    proof = read_inspector(inspect(*UNFUSED[case]), (CONV,))
    (node,) = proof.nodes
    assert node.got == "float32"
    assert node.reason
    assert proof.missing == ("int8",)
    assert "int8 was asked for 1 layers, 0 have it (not: stem/Conv runs in float32" in proof.detail
    with pytest.raises(BuildError, match=r"no int8 layers[\s\S]*stem/Conv runs in float32[\s\S]*--allow-fallback"):
        require_precisions(proof)
    require_precisions(proof, allow_fallback=True)


def test_quantize_and_dequantize_are_counted_as_moving_data() -> None:
    proof = read_inspector(inspect(*UNFUSED["quantize, dequantize, float convolution"]), (CONV,))
    assert (proof.layers, proof.reformat_layers) == ({"float32": 1}, 2)


def test_unsigned_bytes_are_not_int8() -> None:
    cast = layer("cast", "kgen", "uint8", "float32", "image/Cast")
    proof = read_inspector(inspect(cast, layer("x", "conv", "uint8", "float32", "stem/Conv")), (CONV,))
    assert proof.layers == {"other": 2}
    assert proof.nodes[0].got == ""


def test_bfloat16_is_not_float32() -> None:
    asked = (AskedLayer("a/MatMul", "MatMul", "float32", 1),)
    proof = read_inspector(inspect(layer("a", "gemm", "bfloat16", "bfloat16", "a/MatMul")), asked)
    assert proof.nodes[0].got == "bfloat16"
    assert proof.missing == ("float32",)


def test_some_of_many_are_told_apart_with_the_reason() -> None:
    asked = tuple(AskedLayer(f"block.{index}/Conv", "Conv", "int8", 1) for index in range(12))
    layers = [layer(f"l{i}", "CaskConvolution", "int8", "int8", f"block.{i}/Conv", **INT8_CONV) for i in range(4)]
    layers.append(layer("block.4/Conv + block.4/Relu", "CaskConvolution", "float16", "float16"))
    proof = read_inspector(inspect(*layers), asked)
    assert "int8 was asked for 12 layers, 4 have it (not: block.4/Conv runs in float16" in proof.detail
    assert "block.5/Conv unknown: no layer of the engine names it" in proof.detail
    assert "and 3 more)" in proof.detail
    assert proof.missing == ()
    assert len(proof.nodes) == 12


def test_a_product_of_two_activations_needs_both_as_integers() -> None:
    asked = (AskedLayer("attention/MatMul", "MatMul", "int8", 2),)
    both = read_inspector(inspect(layer("m", "gemm", "int8 int8", "float32", "attention/MatMul")), asked)
    one = read_inspector(inspect(layer("m", "gemm", "int8 float16", "float32", "attention/MatMul")), asked)
    assert (both.nodes[0].got, one.nodes[0].got) == ("int8", "float16")


def test_a_generated_kernel_that_reads_integers_proves_nothing_unless_its_tactic_does() -> None:
    blind = layer("k", "kgen", "int8", "float32", "image/Dequantize", "stem/Conv")
    proof = read_inspector(inspect(blind), (CONV,))
    assert proof.nodes[0].got == ""
    assert "does not say in what it computes" in proof.nodes[0].reason
    assert proof.missing == (), "what cannot be told is not known to be missing"
    told = {**blind, "TacticName": "sm80_xmma_gemm_i8f32_i8i32_f32"}
    assert read_inspector(inspect(told), (CONV,)).nodes[0].got == "int8"


def test_a_node_in_two_layers_has_the_worse_of_both() -> None:
    halves = [
        layer("a", "CaskConvolution", "int8", "int8", "stem/Conv", **INT8_CONV),
        layer("b", "CaskConvolution", "float16", "int8", "stem/Conv"),
    ]
    assert read_inspector(inspect(*halves), (CONV,)).nodes[0].got == "float16"


def test_names_are_compared_whole() -> None:
    other = layer("stem/Conv_1", "CaskConvolution", "int8", "int8", "stem/Conv_1", **INT8_CONV)
    assert read_inspector(inspect(other), (CONV,)).nodes[0].reason == "no layer of the engine names it"


@pytest.mark.parametrize("text", ["", "not json", "{}", '{"Layers": ["only a name"]}', "[]", '{"Layers": 3}'])
def test_an_inspector_without_layers_proves_nothing(text: str) -> None:
    proof = read_inspector(text, (CONV,))
    assert not proof.inspected
    assert proof.expected == ("int8",)
    require_precisions(proof)


def test_layers_without_types_are_neither() -> None:
    proof = read_inspector('[{"Name": "a", "LayerType": "plugin", "Inputs": [{"Name": "x"}]}]', ())
    assert proof.layers == {"other": 1}
    assert proof.time_share is None


def quantized(folder: Path, dtype: Any, *, zero: Any = np.int8, moved: bool = False) -> OnnxArtifact:
    scale = numpy_helper.from_array(np.array(0.1, dtype), "scale")
    point = numpy_helper.from_array(np.array(0, zero), "zero")
    weight = numpy_helper.from_array(np.ones((4, 3), zero), "weight8")
    second = numpy_helper.from_array(np.ones((3, 3), dtype), "second")
    to = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=to),
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]),
        helper.make_node("Transpose", ["dq"], ["turned"], perm=[0, 1]),
        helper.make_node("DequantizeLinear", ["weight8", "scale", "zero"], ["w"]),
        helper.make_node("MatMul", ["turned" if moved else "dq", "w"], ["product"], name="fc1/MatMul"),
        helper.make_node("MatMul", ["product", "second"], ["y"], name="fc2/MatMul"),
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Cast", ["y"], ["logits"], to=1),
    ]
    return save_graph(folder, nodes, initializers=(scale, point, weight, second))


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("zero", [np.int8, np.uint8])
@pytest.mark.parametrize(("dtype", "name"), [(np.float32, "float32"), (np.float16, "float16")])
def test_a_graph_asks_for_int8_where_both_operands_are_dequantized(
    tmp_path: Path, dtype: Any, name: str, zero: Any, moved: bool
) -> None:
    asked = asked_layers(load_onnx(quantized(tmp_path, dtype, zero=zero, moved=moved).path))
    assert asked == (
        AskedLayer("fc1/MatMul", "MatMul", "int8", 1),
        AskedLayer("fc2/MatMul", "MatMul", name, 1),
        AskedLayer("node_of_z", "MatMul", name, 1),
    ), "integers as weights alone are no INT8"
    assert expected_precisions(asked) == ("int8", name)


def test_products_of_activations_have_two_operands_and_the_type_that_follows(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["image"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Transpose", ["half"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["turned", "half"], ["square"], name="a/MatMul"),
        helper.make_node("Cast", ["square"], ["logits"], to=TensorProto.FLOAT),
    ]
    model = save_graph(tmp_path, nodes, initializers=(), output_shape=(4, 4))
    assert asked_layers(load_onnx(model.path)) == (AskedLayer("a/MatMul", "MatMul", "float16", 2),)


def test_a_float_graph_asks_for_the_type_of_its_weights(linear: OnnxArtifact) -> None:
    assert asked_layers(load_onnx(linear.path)) == (AskedLayer("head.fc/MatMul", "MatMul", "float32", 1),)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_of_ours_is_asked_for_layer_by_layer(tmp_path: Path, precision: str) -> None:
    names = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
    asked = asked_layers(load_onnx(save_convnet(tmp_path, precision).path))
    expected = names.get(precision, "int8")
    assert asked == (AskedLayer("stem/Conv", "Conv", expected, 1), AskedLayer("head.fc/Gemm", "Gemm", expected, 1))
