from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.artifacts import open_onnx
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.errors import ExportError, UsageError
from linglos_deploy.exporters import conversion
from linglos_deploy.exporters.conversion import convert_opset
from linglos_deploy.graph.opset import opset_of, to_opset

node = helper.make_node
RANDOM = np.random.default_rng(0)


def old_graph(
    opset: int, nodes: Sequence[onnx.NodeProto], weights: dict[str, np.ndarray], *, rank: int = 4
) -> onnx.ModelProto:
    """A graph as a file of that time holds it: IR version 3, weights among the inputs."""
    shape = ["n", 4, 8, 8]
    value = helper.make_tensor_value_info
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    inputs = [value("x", TensorProto.FLOAT, shape)]
    inputs += [value(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in tensors]
    graph = helper.make_graph(nodes, "g", inputs, [value("y", TensorProto.FLOAT, [None] * rank)], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3)
    helper.set_model_props(model, {"author": "somebody"})
    return model


def floats(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


SCALES = np.array([1, 1, 1.5, 2], np.float32)
OLD = {
    "conv-bn 7": (
        7,
        [
            node("Conv", ["x", "w"], ["a"], name="conv", pads=[1, 1, 1, 1]),
            node("BatchNormalization", ["a", "s", "s", "s", "s"], ["b"], name="norm"),
            node("Relu", ["b"], ["y"], name="act"),
        ],
        {"w": floats(4, 4, 3, 3), "s": np.abs(floats(4)) + 0.5},
    ),
    "upsample nearest 7": (7, [node("Upsample", ["x"], ["y"], mode="nearest", scales=[1.0, 1.0, 2.0, 2.0])], {}),
    "upsamples inside 9": (
        9,
        [
            node("Upsample", ["x", "k"], ["a"], name="up1", mode="linear"),
            node("Upsample", ["a", "k"], ["b"], mode="nearest"),
            node("Clip", ["b"], ["c"], max=0.5),
            node("Add", ["c", "b"], ["y"], name="add"),
        ],
        {"k": SCALES},
    ),
    "upsample linear 8": (8, [node("Upsample", ["x"], ["y"], mode="linear", scales=[1.0, 1.0, 2.0, 2.0])], {}),
    "upsample linear 9": (9, [node("Upsample", ["x", "k"], ["y"], name="up", mode="linear")], {"k": SCALES}),
    "resize linear 10": (10, [node("Resize", ["x", "k"], ["y"], name="up", mode="linear")], {"k": SCALES}),
    "reflected pad 7": (7, [node("Pad", ["x"], ["y"], pads=[0, 0, 1, 1, 0, 0, 1, 1], mode="reflect")], {}),
    "clip, slice 9": (
        9,
        [node("Clip", ["x"], ["a"], min=0.0, max=0.6), node("Slice", ["a"], ["y"], axes=[2], starts=[1], ends=[5])],
        {},
    ),
    "softmax over all behind axis 1, 9": (9, [node("Softmax", ["x"], ["y"], axis=1)], {}),
    "reduce and squeeze 11": (
        11,
        [node("ReduceSum", ["x"], ["a"], axes=[3], keepdims=1), node("Squeeze", ["a"], ["y"], axes=[3])],
        {},
    ),
    "topk, dropout 9": (9, [node("Dropout", ["x"], ["a"]), node("TopK", ["a"], ["y", "i"], k=2, axis=1)], {}),
}


def write(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("name", OLD)
@pytest.mark.parametrize("version", [13, 17, 22])
def test_a_converted_graph_answers_the_same_and_keeps_its_names(name: str, version: int, tmp_path: Path) -> None:
    opset, nodes, weights = OLD[name]
    rank = 3 if name.startswith("reduce") else 4
    model = old_graph(opset, nodes, weights, rank=rank)
    batch = {"x": floats(2, 4, 8, 8)}
    converted = convert_opset(
        open_onnx(write(tmp_path, model)),
        version,
        [batch],
        runtime=OnnxRuntime(threads=1, optimize=False),
        out=tmp_path / "converted.onnx",
    )
    proto = onnx.load(converted.path)
    assert opset_of(proto) == version
    assert [step.stage for step in converted.lineage] == ["opset"]
    assert converted.signature.input_names == ("x",)
    made = {output for made in proto.graph.node for output in made.output}
    assert made >= {output for made in nodes for output in made.output}
    names = [made.name for made in proto.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    assert {made.name for made in nodes if made.name} <= set(names)
    assert proto.metadata_props[0].value == "somebody"


def test_a_graph_that_answers_something_else_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
        converted = to_opset(model, version)
        resize = next(made for made in converted.graph.node if made.op_type == "Resize")
        for entry in resize.attribute:
            if entry.name == "coordinate_transformation_mode":
                entry.s = b"half_pixel"
        return converted

    monkeypatch.setattr(conversion, "to_opset", damaged)
    opset, nodes, weights = OLD["upsample linear 9"]
    with pytest.raises(ExportError, match="In opset 17 the graph answers something else") as raised:
        convert_opset(
            open_onnx(write(tmp_path, old_graph(opset, nodes, weights))),
            17,
            [{"x": floats(1, 4, 8, 8)}],
            runtime=OnnxRuntime(threads=1, optimize=False),
            out=tmp_path / "converted.onnx",
        )
    assert "output 'y' differs" in str(raised.value.found)
    assert not (tmp_path / "converted.onnx").exists()


def test_a_graph_that_is_there_already_is_left_as_it_is(tmp_path: Path) -> None:
    opset, nodes, weights = OLD["conv-bn 7"]
    artifact = open_onnx(write(tmp_path, old_graph(opset, nodes, weights)))
    assert convert_opset(artifact, 7, [], runtime=OnnxRuntime(), out=tmp_path / "other.onnx") is artifact
    assert not (tmp_path / "other.onnx").exists()


def test_later_and_too_old_opsets_are_refused() -> None:
    model = old_graph(6, [node("Relu", ["x"], ["y"])], {})
    with pytest.raises(UsageError, match="opset 6 cannot be converted"):
        to_opset(model, 17)
    with pytest.raises(UsageError, match="opset 6 cannot be converted"):
        to_opset(model, 5)


def test_local_functions_are_written_out_and_foreign_operators_keep_their_version() -> None:
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("mine", 1), helper.make_opsetid("com.microsoft", 1)]
    function = helper.make_function("mine", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], opsets[:1])
    model = old_graph(
        15,
        [node("Twice", ["x"], ["a"], domain="mine"), node("QuickGelu", ["a"], ["y"], domain="com.microsoft")],
        {},
    )
    model.ir_version = 8
    model.functions.append(function)
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    converted = to_opset(model, 18)
    assert [made.op_type for made in converted.graph.node] == ["Add", "QuickGelu"]
    assert {(entry.domain, entry.version) for entry in converted.opset_import} == {("", 18), ("com.microsoft", 1)}


def test_the_inside_of_an_if_is_converted_too(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    then = helper.make_graph(
        [node("Upsample", ["x", "k"], ["big"], mode="linear")], "then", [], [value("big", TensorProto.FLOAT, None)]
    )
    other = helper.make_graph(
        [node("Clip", ["x"], ["cut"], max=0.5), node("Upsample", ["cut", "k"], ["blocks"], mode="nearest")],
        "else",
        [],
        [value("blocks", TensorProto.FLOAT, None)],
    )
    model = old_graph(
        9,
        [
            node("ReduceMax", ["x"], ["top"], keepdims=0),
            node("Greater", ["top", "zero"], ["yes"]),
            node("If", ["yes"], ["y"], then_branch=then, else_branch=other),
        ],
        {"k": SCALES, "zero": np.array(0, np.float32)},
    )
    batches = [{"x": floats(1, 4, 8, 8)}, {"x": -np.abs(floats(1, 4, 8, 8))}]
    converted = convert_opset(
        open_onnx(write(tmp_path, model)),
        18,
        batches,
        runtime=OnnxRuntime(threads=1, optimize=False),
        out=tmp_path / "converted.onnx",
    )
    assert opset_of(onnx.load(converted.path)) == 18
