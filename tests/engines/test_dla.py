"""Which layers a DLA core would take: NVIDIA's documented rules, each from both sides of its limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.engines.dla import DlaLayer, DlaReport, dla_preflight
from linglos_deploy.engines.options import EngineOptions
from linglos_deploy.errors import UsageError
from linglos_deploy.models.loading import ModelSource
from linglos_deploy.pipeline import ExportRequest
from tests.commandline import enter, run

SHAPE = ("batch", 4, 32, 32)


def preflight(
    folder: Path,
    op_type: str,
    *others: Any,
    shape: tuple[Any, ...] = SHAPE,
    element: int = TensorProto.FLOAT16,
    inputs: int = 1,
    **attributes: Any,
) -> DlaReport:
    """Examine a graph of one node, whose further inputs are constants, given as arrays or shapes."""
    arrays = [np.zeros(it, np.float16) if isinstance(it, tuple) else np.asarray(it) for it in others]
    names = [f"constant{index}" for index in range(len(arrays))]
    data = [f"x{index}" for index in range(inputs)]
    attributes = {name: value for name, value in attributes.items() if value is not None}
    node = helper.make_node(op_type, [*data, *names], ["y"], name="layer", **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(name, element, shape) for name in data],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(array, name) for name, array in zip(names, arrays, strict=True)],
    )
    return examine(folder, graph)


def examine(folder: Path, graph: onnx.GraphProto) -> DlaReport:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(onnx.shape_inference.infer_shapes(model, strict_mode=True), folder / "model.onnx")
    return dla_preflight(folder / "model.onnx")


def answer(*args: Any, **kwargs: Any) -> tuple[bool | None, str]:
    (layer,) = preflight(*args, **kwargs).layers
    assert (layer.reason == "") is (layer.taken is True), "every layer that is not taken has a reason"
    return layer.taken, layer.reason


@pytest.mark.parametrize(
    ("weight", "attributes", "reason"),
    [
        ((8, 4, 32, 32), {}, ""),
        ((8, 4, 33, 1), {"pads": [1, 0, 0, 0]}, "a kernel of 33 x 1, outside 1 to 32"),
        ((8, 4, 3, 3), {"strides": [8, 8]}, ""),
        ((8, 4, 3, 3), {"strides": [9, 1]}, "a stride of 9 x 1"),
        ((8, 4, 3, 3), {"pads": [2, 2, 2, 2]}, ""),
        ((8, 4, 3, 3), {"pads": [3, 0, 0, 0]}, "padding as wide as the kernel"),
        ((8, 4, 1, 1), {"dilations": [33, 1]}, "a dilation of 33 x 1"),
        ((4, 1, 3, 3), {"group": 4}, ""),
    ],
)
def test_a_convolution_is_taken_within_its_limits(
    tmp_path: Path, weight: tuple[int, ...], attributes: dict[str, Any], reason: str
) -> None:
    taken, why = answer(tmp_path, "Conv", weight, **attributes)
    assert (taken, reason in why) == (not reason, True)


def test_a_convolution_needs_room_for_its_weights_and_data(tmp_path: Path) -> None:
    # 2 bytes x 1024 channels x 11 x 11 = 247 808, 8 banks; 64 lines of 32 bytes / 4 x width 32 x 11 = 5 632 / 256, 22
    taken, why = answer(tmp_path, "Conv", (8, 1024, 11, 11), shape=(1, 1024, 32, 32))
    assert (taken, why) == (False, "its weights and data need 30 banks of the convolution buffer, which has 16")
    # 2 bytes x 512 x 9 = 9 216, 1 bank; 32 x 32 / 4 x 3 = 768 / 256, 3
    assert answer(tmp_path, "Conv", (8, 512, 3, 3), shape=(1, 512, 32, 32)) == (True, "")


@pytest.mark.parametrize(
    ("weight", "attributes", "reason"),
    [
        ((4, 8, 2, 2), {"strides": [2, 2]}, ""),
        ((4, 8, 1, 64), {}, ""),
        ((4, 8, 1, 65), {}, "a kernel of 1 x 65"),
        ((4, 8, 3, 3), {"pads": [1, 1, 1, 1]}, "padding of 1 x 1 x 1 x 1"),
        ((4, 2, 2, 2), {"group": 2}, "groups: 2"),
        ((4, 8, 23, 23), {"strides": [23, 23]}, "as large as their stride"),
    ],
)
def test_a_transposed_convolution_is_taken_within_its_limits(
    tmp_path: Path, weight: tuple[int, ...], attributes: dict[str, Any], reason: str
) -> None:
    taken, why = answer(tmp_path, "ConvTranspose", weight, shape=(1, 4, 8, 8), **attributes)
    assert (taken, reason in why) == (not reason, True)


@pytest.mark.parametrize(
    ("op_type", "others", "attributes", "taken", "reason"),
    [
        ("MaxPool", (), {"kernel_shape": [8, 8], "strides": [16, 16]}, True, ""),
        ("MaxPool", (), {"kernel_shape": [9, 9]}, False, "a window of 9 x 9"),
        ("MaxPool", (), {"kernel_shape": [2, 2], "strides": [17, 1]}, False, "a stride of 17 x 1"),
        ("AveragePool", (), {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 1}, True, ""),
        ("AveragePool", (), {"kernel_shape": [3, 3], "pads": [1] * 4}, None, "leaves its padding out"),
        ("Relu", (), {}, True, ""),
        ("Clip", (np.float16(0), np.float16(6)), {}, True, ""),
        ("Clip", (np.float16(-1), np.float16(6)), {}, False, "clipped from 0"),
        ("Clip", (np.float16(0), np.float16(128)), {}, False, "clipped from 0"),
        ("Gelu", (), {}, False, "no DLA layer for Gelu"),
        ("Neg", (), {}, False, "op_reconstruction"),
        ("Sqrt", (), {}, False, "no DLA layer for Sqrt"),
        ("Pow", (np.float16(2),), {}, None, "limits that this check does not know"),
        ("GlobalAveragePool", (), {}, False, "no DLA layer"),
        ("MatMul", ((32, 8),), {}, True, ""),
        ("Transpose", (), {"perm": [0, 2, 3, 1]}, None, "for four axes"),
        ("Softmax", (), {"axis": 1}, None, "on Orin"),
        ("Concat", ((1, 4, 32, 32),), {"axis": 2}, False, "joined along axis 2"),
    ],
)
def test_each_operator_has_its_rule(
    tmp_path: Path, op_type: str, others: tuple[Any, ...], attributes: dict[str, Any], taken: bool | None, reason: str
) -> None:
    found, why = answer(tmp_path, op_type, *others, **attributes)
    assert found is taken
    assert reason in why


@pytest.mark.parametrize(
    ("mode", "scale", "taken"),
    [("nearest", 32, True), ("linear", 4, True), ("linear", 5, False), ("linear", 1.5, False)],
)
def test_a_resize_takes_whole_factors_up_to_a_limit(tmp_path: Path, mode: str, scale: float, taken: bool) -> None:
    scales = np.array([1, 1, scale, scale], np.float32)
    found, why = answer(tmp_path, "Resize", np.zeros(0, np.float32), scales, shape=(1, 4, 8, 8), mode=mode)
    assert found is taken
    assert taken or "whole factors" in why


def test_channels_are_joined_and_the_product_of_two_activations_is_not_taken(tmp_path: Path) -> None:
    assert answer(tmp_path, "Concat", inputs=2, axis=1) == (True, "")
    assert "needs constant weights" in answer(tmp_path, "MatMul", inputs=2)[1]


@pytest.mark.parametrize("op_type", ["Relu", "Add"])
def test_tokens_have_no_two_spatial_dimensions(tmp_path: Path, op_type: str) -> None:
    taken, why = answer(tmp_path, op_type, shape=(1, 49, 64), inputs=2 if op_type == "Add" else 1)
    assert (taken, why) == (False, "two spatial dimensions only, and its inputs have 3 axes")


@pytest.mark.parametrize(
    ("shape", "element", "reason"),
    [
        ((1, 4, "height", 32), TensorProto.FLOAT16, "'x0' has an open size besides the batch"),
        ((1, 8193, 2, 2), TensorProto.FLOAT16, "a side above 8192"),
        ((4097, 4, 2, 2), TensorProto.FLOAT16, "a batch above 4096"),
        ((1, 4, 2, 2), TensorProto.BFLOAT16, "bfloat16"),
    ],
)
def test_sizes_and_types_rule_out_any_layer(tmp_path: Path, shape: tuple[Any, ...], element: int, reason: str) -> None:
    taken, why = answer(tmp_path, "Relu", shape=shape, element=element)
    assert taken is False
    assert reason in why


def test_layers_behind_qdq_pairs_are_unsettled_and_the_pairs_are_no_layers(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]),
        helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["weight"]),
        helper.make_node("Conv", ["dq", "weight"], ["y"], name="conv"),
        helper.make_node("Relu", ["y"], ["z"], name="relu"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, (1, 4, 8, 8))],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT16, (1, 8, 8, 8))],
        [
            numpy_helper.from_array(np.float16(0.1), "scale"),
            numpy_helper.from_array(np.int8(0), "zero"),
            numpy_helper.from_array(np.zeros((8, 4, 1, 1), np.int8), "w"),
        ],
    )
    report = examine(tmp_path, graph)
    assert [(it.node, it.taken) for it in report.layers] == [("conv", None), ("relu", True)]
    assert "Q/DQ" in report.layers[0].reason


def test_arithmetic_on_shapes_is_no_layer(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "index"], ["first"]),
        helper.make_node("Relu", ["x"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4, 8, 8))],
        [helper.make_empty_tensor_value_info("y"), helper.make_empty_tensor_value_info("first")],
        [numpy_helper.from_array(np.array(0), "index")],
    )
    report = examine(tmp_path, graph)
    assert report.layers == (DlaLayer("node_of_y", "Relu", True),)
    assert any("FP16 and INT8" in note for note in report.notes)


def test_the_commands_say_that_nothing_ran_and_build_builds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preflight(tmp_path, "Gelu")
    here = enter(tmp_path, monkeypatch)
    shown = run("inspect", "model.onnx", "--target", "dla").expect(0).stdout
    assert "0 of 1 layers would run on a DLA core, by NVIDIA's documented rules; nothing was built or run" in shown
    assert "no DLA layer for Gelu" in shown
    assert "one size for batch" in shown
    answered = run("inspect", "model.onnx", "--target", "dla", "--json").expect(0).json
    assert answered["layers"][0]["taken"] is False
    run("inspect", "model.onnx", "--target", "rtx").explain(
        2, "inspect holds graphs against documented rules of these targets"
    )
    run("inspect", "model.onnx", "--target", "dla", "--html", "x.html").explain(2, "on the screen or as JSON")
    refused = run("build", "model.onnx", "--target", "dla", "-o", "out")
    refused.explain(2, "builds no engines for DLA cores")
    refused.expect(2, "0 of 1 layers would run on a DLA core")
    assert not (here / "out").exists()


def test_an_export_refuses_it_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="builds no engines for DLA cores"):
        ExportRequest(ModelSource(variant="t"), tmp_path, engine_options=EngineOptions(target="dla"))
