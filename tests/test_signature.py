"""Shapes as files state them: sizes, names, axes of which nothing is said, and no shape at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from linglos_deploy.artifacts import onnx_signature
from linglos_deploy.errors import ArtifactError, DataError
from linglos_deploy.signature import ModelSignature, TensorSpec, is_unnamed, unnamed


def _identity(shape: list[int | str | None] | None) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("nothing", ["?", "", None, -1, "None"])
def test_axes_of_which_nothing_is_said_may_differ_in_size(nothing: str | int | None) -> None:
    (spec,) = onnx_signature(_identity(["batch", 3, nothing, nothing])).inputs
    assert spec.dims[:2] == ("batch", 3)
    assert all(map(is_unnamed, spec.dims[2:]))
    assert spec.describe() == "x float32[batch, 3, ?, ?]"
    ModelSignature((spec,), ()).check_inputs({"x": np.zeros((2, 3, 48, 192), np.float32)})


def test_an_axis_with_a_name_has_one_size() -> None:
    signature = onnx_signature(_identity(["n", "side", "side"]))
    signature.check_inputs({"x": np.zeros((2, 5, 5), np.float32)})
    with pytest.raises(DataError, match="'x' does not fit"):
        signature.check_inputs({"x": np.zeros((2, 5, 6), np.float32)})


def test_axes_without_names_differ_between_tensors_too() -> None:
    signature = onnx_signature(_identity([None, 2]))
    assert signature.inputs[0].shape == (unnamed("x", 0), 2)
    assert signature.outputs[0].shape == (unnamed("y", 0), 2)


def test_a_tensor_without_a_shape_is_no_scalar() -> None:
    (without,) = onnx_signature(_identity(None)).outputs
    assert without.shape is None
    assert without.describe() == "y float32[...]"
    with pytest.raises(DataError, match="how many axes 'y' has"):
        _ = without.dims
    (scalar,) = onnx_signature(_identity([])).outputs
    assert scalar.dims == ()
    ModelSignature((without,), ()).check_inputs({"y": np.zeros((2, 7), np.float32)})


def test_an_output_that_is_no_tensor_is_refused_by_name() -> None:
    model = _identity([2])
    element = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
    model.graph.output[0].type.CopyFrom(helper.make_sequence_type_proto(element))
    with pytest.raises(ArtifactError, match="'y' is no tensor"):
        onnx_signature(model)


def test_a_shape_survives_being_written(tmp_path: Path) -> None:
    from linglos_deploy import codec

    signature = ModelSignature((TensorSpec("x", "float32", ("batch", unnamed("x", 1))),), (TensorSpec("y", "f", None),))
    codec.write_json(signature, tmp_path / "s.json")
    assert codec.read_json(ModelSignature, tmp_path / "s.json") == signature
