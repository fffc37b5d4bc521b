from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.exporters.folding import FoldBatchNorms
from linglos_deploy.graph.passes.running import run_passes

RNG = np.random.default_rng(0)


def _norm(name: str, channels: int) -> dict[str, np.ndarray]:
    return {
        f"{name}.weight": RNG.uniform(0.5, 1.5, channels).astype(np.float32),
        f"{name}.bias": RNG.normal(size=channels).astype(np.float32),
        f"{name}.mean": RNG.normal(size=channels).astype(np.float32),
        f"{name}.var": RNG.uniform(0.5, 2.0, channels).astype(np.float32),
    }


def _graph(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    *,
    shape: tuple[int, ...],
    outputs: tuple[str, ...] = ("y",),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "folding",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def _batch_norm(data: str, name: str, result: str, **attributes: float) -> onnx.NodeProto:
    inputs = [data, f"{name}.weight", f"{name}.bias", f"{name}.mean", f"{name}.var"]
    return helper.make_node("BatchNormalization", inputs, [result], name=name, **attributes)


def _run(model: onnx.ModelProto, values: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": values})


def _folded(model: onnx.ModelProto, shape: tuple[int, ...]) -> onnx.ModelProto:
    """Fold, check that the function stayed, and return the graph."""
    after = run_passes(model, FoldBatchNorms())
    values = RNG.normal(size=shape).astype(np.float32)
    for one, other in zip(_run(model, values), _run(after, values), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    return after


def _kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_norm_behind_a_convolution_disappears_into_it(groups, bias):
    weights = {"conv.weight": RNG.normal(size=(6, 4 // groups, 3, 3)).astype(np.float32), **_norm("norm", 6)}
    inputs = ["x", "conv.weight"]
    if bias:
        weights["conv.bias"] = RNG.normal(size=6).astype(np.float32)
        inputs.append("conv.bias")
    nodes = [helper.make_node("Conv", inputs, ["c"], name="conv", group=groups), _batch_norm("c", "norm", "y")]
    after = _folded(_graph(nodes, weights, shape=(2, 4, 7, 5)), (2, 4, 7, 5))
    assert _kinds(after) == ["Conv"]
    assert list(after.graph.node[0].input) == ["x", "conv.weight", "conv.bias"]
    assert after.graph.node[0].name == "conv"


@pytest.mark.parametrize("groups", [1, 2])
def test_a_norm_behind_a_transposed_convolution_follows_the_output_channels_of_each_group(groups):
    weights = {"up.weight": RNG.normal(size=(4, 6 // groups, 2, 2)).astype(np.float32), **_norm("norm", 6)}
    nodes = [
        helper.make_node("ConvTranspose", ["x", "up.weight"], ["c"], name="up", group=groups, strides=[2, 2]),
        _batch_norm("c", "norm", "y", epsilon=1e-3),
    ]
    assert _kinds(_folded(_graph(nodes, weights, shape=(2, 4, 3, 5)), (2, 4, 3, 5))) == ["ConvTranspose"]


@pytest.mark.parametrize(("transposed", "beta"), [(0, 1.0), (1, 1.0), (1, 0.5)])
def test_a_norm_behind_a_linear_layer_follows_its_columns(transposed, beta):
    shape = (6, 4) if transposed else (4, 6)
    weights = {
        "fc.weight": RNG.normal(size=shape).astype(np.float32),
        "fc.bias": RNG.normal(size=6).astype(np.float32),
        **_norm("norm", 6),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "fc.weight", "fc.bias"], ["c"], name="fc", transB=transposed, beta=beta),
        _batch_norm("c", "norm", "y"),
    ]
    assert _kinds(_folded(_graph(nodes, weights, shape=(3, 4)), (3, 4))) == ["Gemm"]


def test_a_norm_behind_a_matrix_product_leaves_an_addition():
    weights = {"fc.weight": RNG.normal(size=(4, 6)).astype(np.float32), **_norm("norm", 6)}
    nodes = [helper.make_node("MatMul", ["x", "fc.weight"], ["c"], name="fc"), _batch_norm("c", "norm", "y")]
    assert _kinds(_folded(_graph(nodes, weights, shape=(3, 4)), (3, 4))) == ["MatMul", "Add"]


def test_a_matrix_product_of_tokens_has_its_columns_elsewhere_and_stays():
    weights = {"fc.weight": RNG.normal(size=(4, 5)).astype(np.float32), **_norm("norm", 5)}
    nodes = [helper.make_node("MatMul", ["x", "fc.weight"], ["c"], name="fc"), _batch_norm("c", "norm", "y")]
    assert _kinds(_folded(_graph(nodes, weights, shape=(3, 5, 4)), (3, 5, 4))) == ["MatMul", "BatchNormalization"]


def test_a_map_that_somebody_else_reads_or_that_is_an_output_stays_as_it_was():
    weights = {"conv.weight": RNG.normal(size=(4, 4, 1, 1)).astype(np.float32), **_norm("norm", 4)}
    conv = helper.make_node("Conv", ["x", "conv.weight"], ["c"], name="conv")
    read_twice = [conv, _batch_norm("c", "norm", "n"), helper.make_node("Add", ["c", "n"], ["y"])]
    tapped = [conv, _batch_norm("c", "norm", "y")]
    shape = (1, 4, 3, 3)
    assert "BatchNormalization" in _kinds(_folded(_graph(read_twice, weights, shape=shape), shape))
    assert "BatchNormalization" in _kinds(_folded(_graph(tapped, weights, shape=shape, outputs=("c", "y")), shape))


def test_layers_that_share_a_weight_each_keep_their_own_function():
    weights = {"w": RNG.normal(size=(4, 4, 1, 1)).astype(np.float32), **_norm("first", 4), **_norm("second", 4)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="a"),
        _batch_norm("a", "first", "b"),
        helper.make_node("Conv", ["b", "w"], ["c"], name="c"),
        _batch_norm("c", "second", "y"),
    ]
    assert _kinds(_folded(_graph(nodes, weights, shape=(1, 4, 3, 3)), (1, 4, 3, 3))) == ["Conv", "Conv"]


def test_a_norm_whose_weight_is_computed_or_that_is_in_training_stays():
    weights = {"conv.weight": RNG.normal(size=(4, 4, 1, 1)).astype(np.float32), **_norm("norm", 4)}
    computed = [
        helper.make_node("Abs", ["conv.weight"], ["w"]),
        helper.make_node("Conv", ["x", "w"], ["c"]),
        _batch_norm("c", "norm", "y"),
    ]
    assert "BatchNormalization" in _kinds(_folded(_graph(computed, weights, shape=(1, 4, 3, 3)), (1, 4, 3, 3)))
    training = _graph(
        [
            helper.make_node("Conv", ["x", "conv.weight"], ["c"]),
            helper.make_node(
                "BatchNormalization",
                ["c", "norm.weight", "norm.bias", "norm.mean", "norm.var"],
                ["y", "mean", "var"],
                training_mode=1,
            ),
        ],
        weights,
        shape=(1, 4, 3, 3),
    )
    assert not FoldBatchNorms()(ir.from_proto(training)).modified


def test_the_name_of_an_output_stays():
    weights = {"conv.weight": RNG.normal(size=(4, 4, 1, 1)).astype(np.float32), **_norm("norm", 4)}
    nodes = [helper.make_node("Conv", ["x", "conv.weight"], ["c"], name="conv"), _batch_norm("c", "norm", "y")]
    after = _folded(_graph(nodes, weights, shape=(1, 4, 3, 3)), (1, 4, 3, 3))
    assert after.graph.output[0].name == after.graph.node[-1].output[0] == "y"
