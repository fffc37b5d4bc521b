from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.errors import ExportError
from linglos_deploy.exporters.precision import range_warnings, tensors_at_risk, to_sixteen_bits
from linglos_deploy.graph.topology import value_types
from tests.exporters.graphs import decibels, graph, run, run_rounded

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT
RANDOM = np.random.default_rng(0)
SQUARE = RANDOM.standard_normal((4, 4)).astype(np.float32)
X = RANDOM.standard_normal((3, 4)).astype(np.float32)


def node(op_type: str, inputs: str, outputs: str, **attributes: object) -> onnx.NodeProto:
    """Make a node whose name is its first output's."""
    return helper.make_node(op_type, inputs.split(), outputs.split(), name=outputs.split()[0], **attributes)


def narrowed(
    nodes: list[onnx.NodeProto], weights: Mapping[str, object], **options: object
) -> tuple[onnx.ModelProto, onnx.ModelProto, dict[str, str]]:
    """Return a graph behind a first layer ``h = x w``, its float16 form, and the reasons of its islands."""
    model = graph([node("MatMul", "x w", "h"), *nodes], {"w": SQUARE, **weights}, **options)  # type: ignore[arg-type]
    typed, islands = to_sixteen_bits(model, ir.DataType.FLOAT16)
    return model, typed, islands


def agree(model: onnx.ModelProto, typed: onnx.ModelProto, x: np.ndarray = X, least: float = 40.0) -> None:
    for feeds in ({"x": x}, {"x": np.zeros_like(x)}):
        for expected, found in zip(run(model, feeds), run_rounded(typed, feeds), strict=True):
            np.testing.assert_array_equal(np.isfinite(expected), np.isfinite(found))
            assert np.allclose(expected, found, rtol=1e-3, atol=1e-6) or decibels(expected, found) >= least


def branch(name: str, nodes: list[onnx.NodeProto], output: str = "out") -> onnx.GraphProto:
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(output, FLOAT, ["n", 4])])


def test_branches_narrow_and_keep_their_own_islands():
    then = [node("Mul", "h h", "squares"), node("Sqrt", "squares", "out")]
    other = [node("MatMul", "h v", "out")]
    model, typed, islands = narrowed(
        [node("If", "yes", "y", then_branch=branch("a", then), else_branch=branch("b", other, "out"))],
        {"yes": np.bool_(True), "v": SQUARE},
    )
    assert {"squares", "out", "y"} <= set(islands)
    agree(model, typed, X * 1000)
    inner = next(attribute.g for attribute in typed.graph.node[-1].attribute if attribute.name == "else_branch")
    assert [each.op_type for each in inner.node] == ["MatMul", "Cast"]
    assert next(each.data_type for each in typed.graph.initializer if each.name == "v") == HALF


def test_what_a_loop_carries_stays_float32_and_its_body_narrows():
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            node("MatMul", "state w", "turned"),
            node("Tanh", "turned", "bounded"),
            node("Identity", "go", "goes"),
        ],
        "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("state", FLOAT, ["n", 4])],
        [value("goes", TensorProto.BOOL, []), value("bounded", FLOAT, ["n", 4])],
    )
    model, typed, _ = narrowed(
        [node("Loop", "three go_on h", "y", body=body)], {"three": np.int64(3), "go_on": np.bool_(True)}
    )
    agree(model, typed)
    inner = next(each for each in typed.graph.node if each.op_type == "Loop").attribute[0].g
    assert [each.op_type for each in inner.node] == ["Cast", "MatMul", "Tanh", "Cast", "Identity"]
    assert {each.type.tensor_type.elem_type for each in (inner.input[2], inner.output[1])} == {FLOAT}


@pytest.mark.parametrize("sizes", [("scales", np.float32([1, 1, 2, 2])), ("roi", np.float32([]))])
def test_scales_and_regions_of_resize_stay_float32(sizes):
    shape = ["n", 2, 2, 2]
    nodes = [
        node("Conv", "x k", "h"),
        helper.make_node("Resize", ["h", "roi", "scales"], ["y"], name="up", mode="linear"),
    ]
    weights = {
        "k": RANDOM.standard_normal((2, 2, 1, 1)).astype("f"),
        "scales": np.float32([1, 1, 2, 2]),
        "roi": np.float32([]),
    }
    model = graph(nodes, weights, inputs={"x": shape}, outputs={"y": ["n", 2, 4, 4]})
    typed, islands = to_sixteen_bits(model, ir.DataType.FLOAT16)
    kinds = {tensor.name: tensor.data_type for tensor in typed.graph.initializer}
    assert kinds == {"k": HALF, "scales": FLOAT, "roi": FLOAT}
    assert islands == {}
    agree(model, typed, RANDOM.standard_normal((2, 2, 2, 2)).astype("f"))


def test_sizes_computed_in_float32_stay_so():
    """3001 columns times 2/3: float16 counts in twos there."""
    nodes = [
        node("Conv", "x k", "h"),
        node("Shape", "h", "shape"),
        node("Cast", "shape", "sizes", to=FLOAT),
        node("Mul", "sizes factors", "wanted"),
        node("Div", "wanted sizes", "scales"),
        helper.make_node("Resize", ["h", "", "scales"], ["y"], name="up", mode="nearest"),
    ]
    weights = {"k": np.float32([[[[0.5]]]]), "factors": np.float32([1, 1, 1, 2 / 3])}
    model = graph(nodes, weights, inputs={"x": ["n", 1, 1, "w"]}, outputs={"y": ["n", 1, 1, None]})
    typed, _ = to_sixteen_bits(model, ir.DataType.FLOAT16)
    agree(model, typed, RANDOM.standard_normal((1, 1, 1, 3001)).astype("f"))


def test_angles_of_far_positions_stay_float32():
    nodes = [
        node("Shape", "x", "rows", start=0, end=1),
        node("Squeeze", "rows", "count"),
        node("Range", "zero count one", "steps"),
        node("Add", "steps far", "places"),
        node("Cast", "places", "positions", to=FLOAT),
        node("Unsqueeze", "positions axis", "column"),
        node("MatMul", "column frequencies", "angles"),
        node("Cos", "angles", "turn"),
        node("Mul", "h turn", "y"),
    ]
    weights = {
        "zero": np.int64(0),
        "one": np.int64(1),
        "far": np.int64(30_011),
        "axis": np.int64([1]),
        "frequencies": np.float32([[1, 0.3, 0.1, 0.03]]),
    }
    model, typed, _ = narrowed(nodes, weights)
    assert value_types(typed)["angles"] == FLOAT
    assert value_types(typed)["y/float16"] == HALF
    agree(model, typed)


@pytest.mark.parametrize("mask", [-np.inf, np.finfo(np.float32).min, -1e9, -1e4])
@pytest.mark.parametrize("form", ["add", "where"])
def test_masked_scores_give_the_same_weights_even_where_all_are_masked(mask, form):
    blocked = np.triu(np.full((4, 4), True), 1)
    blocked[2] = mask != -np.inf  # a row of nothing but -inf is NaN in float32, too
    masking = node("Add", "scores mask", "masked") if form == "add" else node("Where", "blocked fill scores", "masked")
    shape: dict[str, object] = {"inputs": {"x": [4, 4]}, "outputs": {"y": [4, 4]}}
    nodes = [
        node("Transpose", "h", "keys"),
        node("MatMul", "h keys", "scores"),
        masking,
        node("Softmax", "masked", "weights"),
        node("MatMul", "weights h", "y"),
    ]
    weights = {"mask": np.where(blocked, np.float32(mask), np.float32(0)), "blocked": blocked, "fill": np.float32(mask)}
    used = {name: weights[name] for name in masking.input if name in weights}
    model, typed, islands = narrowed(nodes, used, **shape)
    assert {"scores", "masked", "weights", "y"} <= set(islands)
    agree(model, typed, RANDOM.standard_normal((4, 4)).astype("f"))


def test_a_mask_made_from_tokens_reaches_the_softmax_in_float32():
    """(1 - keep) * finfo.min: as float16 that is 0 * -inf, which is NaN."""
    nodes = [
        node("Cast", "keep", "kept", to=FLOAT),
        node("Sub", "one kept", "dropped"),
        node("Mul", "dropped lowest", "mask"),
        node("Add", "h mask", "masked"),
        node("Softmax", "masked", "y"),
    ]
    weights = {"keep": np.int64([1, 1, 0, 1]), "one": np.float32(1), "lowest": np.float32(np.finfo(np.float32).min)}
    model, typed, _ = narrowed(nodes, weights)
    agree(model, typed)


def test_a_softmax_written_out_survives_a_row_that_is_masked_altogether():
    nodes = [
        node("Cast", "keep", "kept", to=FLOAT),
        node("Sub", "one kept", "dropped"),
        node("Mul", "dropped lowest", "mask"),
        node("Add", "h mask", "masked"),
        node("ReduceMax", "masked last", "peak"),
        node("Sub", "masked peak", "below"),
        node("Exp", "below", "weights"),
        node("ReduceSum", "weights last", "sum"),
        node("Div", "weights sum", "y"),
    ]
    weights = {
        "keep": np.int64([[1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]),
        "one": np.float32(1),
        "lowest": np.float32(np.finfo(np.float32).min),
        "last": np.int64([-1]),
    }
    model, typed, _ = narrowed(nodes, weights, inputs={"x": [3, 4]}, outputs={"y": [3, 4]})
    agree(model, typed)


def test_the_logarithm_of_zero_and_an_epsilon_stays_finite():
    nodes = [node("Relu", "h", "positive"), node("Add", "positive epsilon", "safe"), node("Log", "safe", "y")]
    model, typed, islands = narrowed(nodes, {"epsilon": np.float32(1e-12)})
    assert set(islands) == {"safe", "y"}
    agree(model, typed)


def test_exponentials_stay_float32_through_functions_until_a_logarithm():
    nodes = [node("Exp", "h", "e"), node("Mul", "e half", "m"), node("Add", "m one", "a"), node("Log", "a", "y")]
    model, typed, islands = narrowed(nodes, {"half": np.float32(0.5), "one": np.float32(1)})
    assert set(islands) == {"e", "m", "a", "y"}
    agree(model, typed, X * 20)


def test_what_lies_between_float32_nodes_alone_is_not_cast_there_and_back():
    nodes = [node("Exp", "h", "e"), node("Log", "e", "l"), node("Neg", "l", "n"), node("Exp", "n", "y")]
    _, typed, islands = narrowed(nodes, {})
    assert "n" not in islands
    assert value_types(typed)["n"] == FLOAT
    assert sum(each.op_type == "Cast" for each in typed.graph.node) == 2


def test_a_product_that_reads_exponentials_is_an_island():
    nodes = [node("Exp", "h", "e"), node("Transpose", "e", "t"), node("MatMul", "ones t", "p"), node("Log", "p", "y")]
    model, typed, islands = narrowed(nodes, {"ones": np.ones((1, 4), "f")}, outputs={"y": [1, "n"]})
    assert set(islands) == {"e", "t", "p", "y"}
    agree(model, typed, X * 20)


def test_a_norm_ends_where_data_meets_its_statistic():
    nodes = [
        node("Pow", "h two", "squares"),
        node("ReduceMean", "squares axes", "mean"),
        node("Sqrt", "mean", "root"),
        node("Div", "h root", "normal"),
        node("Mul", "normal gain", "scaled"),
        node("MatMul", "scaled w", "y"),
    ]
    _, _, islands = narrowed(nodes, {"two": np.float32(2), "axes": np.int64([-1]), "gain": np.full(4, 3, "f")})
    assert set(islands) == {"squares", "mean", "root", "normal"}


def test_a_factor_below_sixteen_bits_is_followed_to_the_next_product():
    nodes = [node("Mul", "h tiny", "small"), node("Neg", "small", "turned"), node("MatMul", "turned large", "y")]
    model, typed, islands = narrowed(nodes, {"tiny": np.float32(1e-8), "large": SQUARE * 1e4})
    assert set(islands) == {"small", "turned", "y"}
    agree(model, typed)


def test_a_bias_of_tiny_numbers_needs_no_island():
    model, typed, islands = narrowed([node("Add", "h bias", "y")], {"bias": np.float32([1e-9, -1e-9, 0, 1e-9])})
    assert islands == {}
    assert decibels(run(model, {"x": X})[0], run_rounded(typed, {"x": X})[0]) >= 40


def test_a_relu6_with_a_limit_nobody_reaches_stays_in_sixteen_bits():
    model, typed, islands = narrowed(
        [node("Clip", "h low high", "y")], {"low": np.float32(0), "high": np.float32(3e38)}
    )
    assert islands == {}
    assert np.isinf(numpy_helper.to_array(next(each for each in typed.graph.initializer if each.name == "high")))
    agree(model, typed)


def test_weights_below_sixteen_bits_keep_their_layer_in_float32():
    model, typed, islands = narrowed(
        [node("MatMul", "h v", "small"), node("Mul", "small large", "y")],
        {"v": SQUARE * 1e-7, "large": np.float32(1e4)},
    )
    assert islands["small"] == "its weights are below 16 bits"
    agree(model, typed)


def test_scales_below_sixteen_bits_keep_their_quantizers_in_float32():
    nodes = [
        node("Mul", "h tiny", "small"),
        node("QuantizeLinear", "small s zero", "q"),
        node("DequantizeLinear", "q s zero", "d"),
        node("Div", "d tiny", "y"),
    ]
    weights = {"tiny": np.float32(2**-20), "s": np.float32(2.0**-25), "zero": np.int8(0)}
    model, typed, islands = narrowed(nodes, weights)
    assert islands["q"] == islands["d"] == "its scale is beyond 16 bits"
    agree(model, typed, least=30)  # a step of INT8 more or less


def test_a_norm_beside_quantized_layers_is_an_island_as_anywhere():
    nodes = [
        node("QuantizeLinear", "h s zero", "q"),
        node("DequantizeLinear", "q s zero", "d"),
        node("Pow", "d two", "squares"),
        node("ReduceMean", "squares axes", "mean"),
        node("Add", "mean epsilon", "safe"),
        node("Sqrt", "safe", "root"),
        node("Reciprocal", "root", "inverse"),
        node("Mul", "d inverse", "y"),
    ]
    weights = {
        "s": np.float32(64),
        "zero": np.int8(0),
        "two": np.float32(2),
        "axes": np.int64([-1]),
        "epsilon": np.float32(1e-12),
    }
    model, typed, _ = narrowed(nodes, weights)
    assert value_types(typed)["d"] == HALF
    agree(model, typed, X * 1000)


def test_a_squeeze_and_excitation_keeps_its_layers_narrow():
    shape = ["n", 4, 3, 3]
    kernels = {name: RANDOM.standard_normal((4, 4, 1, 1)).astype("f") for name in "abc"}
    nodes = [
        node("Conv", "x a", "h"),
        node("GlobalAveragePool", "h", "mean"),
        node("Conv", "mean b", "b_out"),
        node("Relu", "b_out", "relu"),
        node("Conv", "relu c", "c_out"),
        node("Sigmoid", "c_out", "gate"),
        node("Mul", "h gate", "y"),
    ]
    model = graph(nodes, kernels, inputs={"x": shape}, outputs={"y": shape})
    typed, islands = to_sixteen_bits(model, ir.DataType.FLOAT16)
    assert set(islands) == {"mean"}
    agree(model, typed, RANDOM.standard_normal((2, 4, 3, 3)).astype("f"))


def test_nodes_without_names_are_told_apart():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Exp", ["a"], ["b"]),
        helper.make_node("Log", ["b"], ["y"]),
    ]
    model = graph(nodes, {"w": SQUARE})
    typed, islands = to_sixteen_bits(model, ir.DataType.FLOAT16)
    assert set(islands) == {"b", "y"}
    agree(model, typed, X * 10)


def test_ranges_from_calibration_make_islands_and_warnings():
    nodes = [node("MatMul", "h v", "large"), node("Relu", "large", "still"), node("MatMul", "still small", "y")]
    model, typed, islands = narrowed(nodes, {"v": SQUARE * 2e4, "small": SQUARE * 1e-4})
    assert not islands
    ranges = {"large": 9e4, "h": 3.0}
    typed, islands = to_sixteen_bits(model, ir.DataType.FLOAT16, ranges=ranges)
    assert islands["large"] == "reaches 9e+04 in calibration"
    assert set(islands) == {"large", "still", "y"}
    assert [text.split("'")[1] for text in range_warnings(model, ir.DataType.FLOAT16, ranges)] == ["large"]
    agree(model, typed, X)


def test_a_network_that_fades_away_is_kept_by_its_ranges():
    layers = 8
    nodes = [node("MatMul", f"h{index} v", f"h{index + 1}") for index in range(layers)]
    model = graph(
        [node("MatMul", "x w", "h0"), *nodes, node("Mul", f"h{layers} back", "y")],
        {"w": SQUARE, "v": SQUARE * 0.02, "back": np.float32(1e8)},
    )
    feeds = {"x": X}
    names = tensors_at_risk(model, ir.DataType.FLOAT16)
    assert names[:9] == tuple(f"h{index}" for index in range(layers + 1))
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.extend(helper.make_tensor_value_info(name, FLOAT, None) for name in names if name != "y")
    ranges = {name: float(np.abs(seen).max()) for name, seen in zip([*"y", *names], run(shown, feeds), strict=False)}
    blind, _ = to_sixteen_bits(model, ir.DataType.FLOAT16)
    (expected,) = run(model, feeds)
    assert decibels(expected, run_rounded(blind, feeds)[0]) < 40
    typed, islands = to_sixteen_bits(model, ir.DataType.FLOAT16, ranges=ranges)
    assert 0 < len(islands) < layers
    assert decibels(expected, run_rounded(typed, feeds)[0]) >= 40


def test_bfloat16_needs_no_ranges():
    model = graph([node("MatMul", "x w", "y")], {"w": SQUARE})
    assert tensors_at_risk(model, ir.DataType.BFLOAT16) == ()
    assert range_warnings(model, ir.DataType.BFLOAT16, {"y": 1e9}) == ()


@pytest.mark.parametrize("opset", [9, 13, 17])
def test_bfloat16_converts_the_opset_instead_of_renaming_it(opset):
    """Squeeze, ReduceMean and Clip took attributes in opsets that bfloat16 convolutions are not in."""
    nodes = [
        node("Conv", "x k", "h"),
        node("ReduceMean", "h", "mean", axes=[2], keepdims=0),
        node("Relu", "mean", "y"),
    ]
    model = graph(
        nodes,
        {"k": RANDOM.standard_normal((2, 2, 1)).astype("f")},
        inputs={"x": ["n", 2, 5]},
        outputs={"y": ["n", 2]},
        opset=opset,
    )
    model.ir_version = 7
    typed, _ = to_sixteen_bits(model, ir.DataType.BFLOAT16)
    assert typed.opset_import[0].version == 22
    agree(model, typed, RANDOM.standard_normal((2, 2, 5)).astype("f"), least=25)


def test_a_tensor_of_unknown_type_is_named():
    nodes = [helper.make_node("Strange", ["x"], ["odd"], domain="elsewhere"), node("Relu", "odd", "y")]
    model = graph(nodes)
    model.opset_import.append(helper.make_opsetid("elsewhere", 1))
    with pytest.raises(ExportError, match="type of tensor 'odd' is not known"):
        to_sixteen_bits(model, ir.DataType.FLOAT16)
