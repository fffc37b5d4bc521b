"""A new quantized operator is one row of the table: nothing else knows the names of operators."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from linglos_deploy.artifacts import load_onnx
from linglos_deploy.calibration.targets import quantizable_activations
from linglos_deploy.graph import operators
from linglos_deploy.quantization.apply import apply_plan
from linglos_deploy.quantization.plan import plan_quantization
from linglos_deploy.quantization.scheme import QuantScheme
from tests.quantization.graphs import graph_of, table_for, write


def deformable_model() -> onnx.ModelProto:
    """A deformable convolution, whose row says that it stays in floating point: no INT8 kernel computes it."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["offset"], "where"),
        helper.make_node("DeformConv", ["x", "w", "offset"], ["y"], "deform"),
    ]
    return graph_of(nodes, {"w": np.ones((2, 2, 1, 1), np.float32)})


def test_an_operator_whose_row_says_that_it_is_a_layer_is_calibrated_planned_and_quantized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = write(deformable_model(), tmp_path / "m.onnx")
    table = table_for(artifact, {"x": np.ones((1, 2, 3, 3))})
    before = plan_quantization(artifact, table, QuantScheme())
    assert [decision.node for decision in before.nodes] == ["where"]

    row = replace(operators.operator("DeformConv"), quantized=operators.Quantized.LAYER)
    monkeypatch.setitem(operators._TABLE, "DeformConv", row)

    assert quantizable_activations(load_onnx(artifact.path)) == ("x",)
    after = plan_quantization(artifact, table, QuantScheme())
    assert [(each.node, each.quantize, each.weight_axis) for each in after.nodes] == [
        ("where", True, 0),
        ("deform", True, 0),
    ]
    graph = load_onnx(apply_plan(artifact, after, out=tmp_path / "q.onnx").path).graph
    (deform,) = (node for node in graph.node if node.name == "deform")
    assert list(deform.input) == ["x/dequantized", "w/dequantized", "offset"]
