"""TensorRT's residual sums: rounded where convolution, sum and the next pair become one kernel, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from linglos_deploy.artifacts import OnnxArtifact, load_onnx
from linglos_deploy.backends.trt.fusing import Gives, fused_layers
from linglos_deploy.choices import Precision
from linglos_deploy.parity.structure import prove
from linglos_deploy.quantization.apply import apply_plan
from linglos_deploy.quantization.placement import find_placement
from tests.quantization.residual import residual_images, residual_model
from tests.quantization.test_placements import planned


def unchanged(model: onnx.ModelProto) -> None:
    """Leave the network as it is."""


def read_beside(model: onnx.ModelProto) -> None:
    """Let a layer in floating point read the sum, too."""
    model.graph.node.append(helper.make_node("ReduceMean", ["r2"], ["seen"], "seen", keepdims=0))
    model.graph.output.append(helper.make_tensor_value_info("seen", onnx.TensorProto.FLOAT, []))


def read_before(model: onnx.ModelProto) -> None:
    """Let somebody else read the layer's result before the sum."""
    model.graph.node.append(helper.make_node("ReduceMean", ["c2"], ["seen"], "seen", keepdims=0))
    model.graph.output.append(helper.make_tensor_value_info("seen", onnx.TensorProto.FLOAT, []))


def without_grid(model: onnx.ModelProto) -> None:
    """Add something that no layer reads, so that no grid of it is known."""
    model.graph.node.insert(5, helper.make_node("Neg", ["r0"], ["other"], "neg"))
    (node,) = (node for node in model.graph.node if node.name == "sum")
    node.input[0] = "other"


def quantized(change: Callable[[onnx.ModelProto], None], name: str, folder: Path) -> OnnxArtifact:
    model = residual_model()
    change(model)
    artifact, plan = planned(model, residual_images(), folder / "m.onnx")
    return apply_plan(artifact, plan, out=folder / f"{name}.onnx", placement=find_placement(name))


def operands(artifact: OnnxArtifact) -> list[str]:
    (node,) = (node for node in load_onnx(artifact.path).graph.node if node.name == "sum")
    return list(node.input)


@pytest.mark.parametrize(("name", "expected"), [("tensorrt", "r0"), ("tensorrt-residual", "r0/dequantized")])
def test_what_is_added_to_a_layers_result_is_rounded_and_the_result_itself_is_not(
    tmp_path: Path, name: str, expected: str
) -> None:
    assert operands(quantized(unchanged, name, tmp_path)) == [expected, "c2"]


@pytest.mark.parametrize("change", [read_beside, read_before, without_grid])
def test_a_sum_that_would_not_end_in_integers_keeps_its_operand(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None]
) -> None:
    assert not any(name.endswith("/dequantized") for name in operands(quantized(change, "tensorrt-residual", tmp_path)))


def test_no_further_tensor_is_rounded(tmp_path: Path) -> None:
    def rounded(name: str) -> list[str]:
        (tmp_path / name).mkdir()
        nodes = load_onnx(quantized(unchanged, name, tmp_path / name).path).graph.node
        return sorted(node.input[0] for node in nodes if node.op_type == "QuantizeLinear")

    assert rounded("tensorrt") == rounded("tensorrt-residual")


def test_convolution_sum_and_the_next_pair_become_one_kernel(tmp_path: Path) -> None:
    for name, gives, reason in (
        ("tensorrt", Gives.FLOATS_TO_ROUND, "it is added to floats"),
        ("tensorrt-residual", Gives.INTEGERS, ""),
    ):
        (tmp_path / name).mkdir()
        report = fused_layers(quantized(unchanged, name, tmp_path / name).path)
        (project,) = (layer for layer in report.layers if layer.node == "project")
        assert (project.gives, project.reason) == (gives, reason)
        assert project.with_it == ("sum", "sum.relu")


def test_sums_in_a_row_are_rounded_together_or_stop_where_floats_are_read(tmp_path: Path) -> None:
    def chain(model: onnx.ModelProto) -> None:
        weight = next(it for it in model.graph.initializer if it.name == "w2")
        again = onnx.TensorProto()
        again.CopyFrom(weight)
        again.name = "w6"
        model.graph.initializer.append(again)
        at = next(index for index, node in enumerate(model.graph.node) if node.name == "wide")
        model.graph.node.insert(at, helper.make_node("Conv", ["r2", "w6"], ["c6"], "second"))
        model.graph.node.insert(at + 1, helper.make_node("Add", ["r2", "c6"], ["sum6"], "sum6"))
        model.graph.node[at + 2].input[0] = "sum6"

    for change, expected in ((chain, 2), (lambda model: (chain(model), beside(model)), 0)):
        folder = tmp_path / str(expected)
        folder.mkdir()
        nodes = load_onnx(quantized(change, "tensorrt-residual", folder).path).graph.node
        sums = [node for node in nodes if node.name in {"sum", "sum6"}]
        assert sum(any(name.endswith("/dequantized") for name in node.input) for node in sums) == expected


def beside(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("ReduceMean", ["sum6"], ["seen"], "seen", keepdims=0))
    model.graph.output.append(helper.make_tensor_value_info("seen", onnx.TensorProto.FLOAT, []))


def test_the_structural_proof_tells_it_from_the_graph_without(tmp_path: Path) -> None:
    artifact, plan = planned(residual_model(), residual_images(), tmp_path / "m.onnx")
    placements = [find_placement(name) for name in ("tensorrt", "tensorrt-residual")]
    for made in placements:
        graph = load_onnx(apply_plan(artifact, plan, out=tmp_path / "q.onnx", placement=made).path)
        for held in placements:
            proof = prove(load_onnx(artifact.path), graph, Precision.INT8, plan=plan, placement=held)
            assert proof.passed is (made is held), (made.name, held.name)


def test_its_answers_stay_near(tmp_path: Path) -> None:
    from onnx.reference import ReferenceEvaluator

    images = residual_images(4, seed=1)
    exact = ReferenceEvaluator(residual_model()).run(None, {"image": images})[0]
    found = ReferenceEvaluator(load_onnx(quantized(unchanged, "tensorrt-residual", tmp_path).path)).run(
        None, {"image": images}
    )[0]
    assert 0 < np.square(found - exact).mean() < 0.01 * np.square(exact).mean()
