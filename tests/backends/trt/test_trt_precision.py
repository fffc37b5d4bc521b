from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from linglos_deploy.artifacts import OnnxArtifact, load_onnx
from linglos_deploy.backends.trt.precision import expected_precisions, read_inspector, require_precisions
from linglos_deploy.errors import BuildError
from tests.backends.trt.trt_graphs import save_graph


def tensor(old: str, new: tuple[str, str], release: int) -> dict[str, str]:
    return {"Format/Datatype": old} if release == 10 else {"Format": new[0], "DataType": new[1]}


def layers(release: int) -> str:
    int8 = tensor("Thirty-two wide channel vectorized row major Int8 format", ("kCHW32", "Int8"), release)
    half = tensor("Half", ("Row major linear", "Half"), release)
    full = tensor("Row major linear FP32", ("Row major linear", "Float"), release)
    brain = tensor("Row major linear BF16 format", ("Row major linear", "BFloat16"), release)
    entries = [
        ("conv", "CaskConvolution", int8, half),
        ("softmax", "kgen", half, half),
        ("norm", "kgen", brain, brain),
        ("head", "gemm", full, full),
        ("copy", "Reformat", full, half),
    ]
    return json.dumps(
        {"Layers": [{"Name": n, "LayerType": t, "Inputs": [i], "Outputs": [o]} for n, t, i, o in entries]}
    )


@pytest.mark.parametrize("release", [10, 11])
def test_layers_are_counted_by_the_type_of_their_inputs_in_both_inspector_formats(release: int):
    proof = read_inspector(layers(release), ("int8",), {"conv": 3.0, "head": 1.0})
    assert proof.inspected
    assert proof.layers == {"int8": 1, "float16": 1, "bfloat16": 1, "float32": 1}
    assert proof.reformat_layers == 1
    assert proof.time_share is not None
    assert proof.time_share["int8"] == 0.75
    assert proof.missing == ()
    require_precisions(proof)


def test_a_precision_without_layers_is_an_error_that_says_what_was_found():
    text = json.dumps({"Layers": [{"Name": "a", "LayerType": "gemm", "Inputs": [{"Format/Datatype": "Float"}]}]})
    proof = read_inspector(text, ("int8", "float16"))
    assert proof.missing == ("int8", "float16")
    with pytest.raises(BuildError, match=r"no int8 and no float16 layers[\s\S]*1 float32[\s\S]*--allow-fallback"):
        require_precisions(proof)


@pytest.mark.parametrize("text", ["", "not json", "{}", '{"Layers": ["only a name"]}', "[]"])
def test_an_inspector_without_layers_proves_nothing(text: str):
    proof = read_inspector(text, ("int8",))
    assert not proof.inspected
    assert proof.expected == ("int8",)
    require_precisions(proof)


def test_layers_without_types_are_neither():
    proof = read_inspector('[{"Name": "a", "LayerType": "plugin", "Inputs": [{"Name": "x"}]}]', ())
    assert proof.layers == {"other": 1}
    assert proof.time_share is None


def quantized(folder: Path, dtype: Any) -> OnnxArtifact:
    scale = numpy_helper.from_array(np.array(0.1, dtype), "scale")
    zero = numpy_helper.from_array(np.array(0, np.int8), "zero")
    weight = numpy_helper.from_array(np.ones((4, 3), np.int8), "weight8")
    second = numpy_helper.from_array(np.ones((3, 3), dtype), "second")
    to = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=to),
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]),
        helper.make_node("DequantizeLinear", ["weight8", "scale", "zero"], ["w"]),
        helper.make_node("MatMul", ["dq", "w"], ["product"], name="fc1/MatMul"),
        helper.make_node("MatMul", ["product", "second"], ["y"], name="fc2/MatMul"),
        helper.make_node("Cast", ["y"], ["logits"], to=1),
    ]
    return save_graph(folder, nodes, initializers=(scale, zero, weight, second))


@pytest.mark.parametrize(("dtype", "name"), [(np.float32, "float32"), (np.float16, "float16")])
def test_a_graph_asks_for_int8_where_both_operands_are_dequantized(tmp_path: Path, dtype: Any, name: str):
    assert expected_precisions(load_onnx(quantized(tmp_path, dtype).path)) == ("int8", name)


def test_a_float_graph_asks_for_the_type_of_its_weights(linear: OnnxArtifact):
    assert expected_precisions(load_onnx(linear.path)) == ("float32",)
