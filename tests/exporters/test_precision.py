from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.artifacts import open_onnx
from linglos_deploy.choices import Precision
from linglos_deploy.errors import ExportError, UsageError
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.export import export_onnx
from linglos_deploy.exporters.islands import float32_islands
from linglos_deploy.exporters.precision import convert_precision, range_warnings
from linglos_deploy.exporters.retype import RetypeFloats
from linglos_deploy.exporters.rounding import with_explicit_rounding
from linglos_deploy.graph.topology import constants, consumers, producers, value_types
from linglos_deploy.progress import Silent
from tests.exporters.graphs import graph

SIXTEEN = {Precision.FP16: TensorProto.FLOAT16, Precision.BF16: TensorProto.BFLOAT16}


@pytest.fixture(scope="module")
def float32(classifier, tmp_path_factory):
    out = tmp_path_factory.mktemp("precision") / "tiny.onnx"
    return export_onnx(classifier, ExportConfig(dynamic=True, precision=Precision.FP16), out=out)


@pytest.fixture(scope="module", params=SIXTEEN)
def typed(request, float32, tmp_path_factory):
    out = tmp_path_factory.mktemp("precision") / f"tiny.{request.param}.onnx"
    return request.param, convert_precision(float32, request.param, out=out)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.dot(a.ravel(), b.ravel()) / np.linalg.norm(a) / np.linalg.norm(b))


def _image(scale: float = 1.0, size: tuple[int, int] = (64, 96)) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal((2, 3, *size)) * scale).astype(np.float32)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_rounded_logits_stay_close_to_float32(typed, float32, run_onnx, tmp_path, scale):
    precision, artifact = typed
    rounded = tmp_path / "rounded.onnx"
    onnx.save(with_explicit_rounding(onnx.load(artifact.path)), rounded)
    feeds = {"image": _image(scale)}
    (expected,), (found,) = run_onnx(float32.path, feeds), run_onnx(rounded, feeds)
    assert np.isfinite(found).all()
    assert _cosine(found, expected) > (0.9999 if precision is Precision.FP16 else 0.999)
    assert not np.array_equal(found, expected)


@pytest.mark.parametrize("typed", [Precision.FP16], indirect=True)
def test_a_float16_graph_runs_on_onnxruntime_as_it_is(typed, float32, run_onnx):
    _, artifact = typed
    (expected,) = run_onnx(float32.path, {"image": _image()})
    (found,) = run_onnx(artifact.path, {"image": _image()})
    assert found.dtype == np.float32
    assert _cosine(found, expected) > 0.9999


def test_heavy_layers_compute_in_sixteen_bits_and_islands_in_float32(typed):
    precision, artifact = typed
    model = onnx.load(artifact.path)
    types = value_types(model)
    for node in model.graph.node:
        if node.op_type in {"Conv", "Gemm", "Gelu", "LayerNormalization"}:
            assert types[node.output[0]] == SIXTEEN[precision], node.name
        if node.op_type in {"Softmax", "ReduceMean"}:
            assert types[node.output[0]] == TensorProto.FLOAT, node.name
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    readers = consumers(model.graph)[softmax.output[0]]
    assert all(types[name] == TensorProto.FLOAT for reader in readers for name in (*reader.input, *reader.output))


def test_casts_are_few_and_none_of_them_cancel(typed):
    _, artifact = typed
    graph = onnx.load(artifact.path).graph
    makers, fixed = producers(graph), constants(graph)
    casts = [node for node in graph.node if node.op_type == "Cast"]
    assert len(casts) == 2 + 2 * 4 + 2  # image and logits; into and out of four gates; around the global pool
    for cast in casts:
        assert cast.input[0] not in fixed
        assert cast.input[0] not in makers or makers[cast.input[0]].op_type != "Cast"
    assert len({(cast.input[0], cast.attribute[0].i) for cast in casts}) == len(casts)


def test_weights_are_stored_once_in_half_the_space(typed, float32):
    _, artifact = typed
    model = onnx.load(artifact.path)
    counts = Counter(tensor.name for tensor in model.graph.initializer)
    assert set(counts.values()) == {1}

    def weight_bytes(graph: onnx.GraphProto) -> int:
        return sum(numpy_helper.to_array(tensor).nbytes for tensor in graph.initializer if tensor.data_type != 7)

    assert weight_bytes(model.graph) < 0.53 * weight_bytes(onnx.load(float32.path).graph)


def test_inputs_and_outputs_stay_float32_unless_asked(typed, float32, tmp_path):
    precision, artifact = typed
    assert artifact.signature == float32.signature
    narrow = convert_precision(float32, precision, out=tmp_path / "narrow.onnx", float32_io=False)
    name = "float16" if precision is Precision.FP16 else "bfloat16"
    assert narrow.signature.inputs[0].dtype == narrow.signature.outputs[0].dtype == name


def test_lineage_metadata_and_operators_say_what_happened(typed):
    precision, artifact = typed
    model = open_onnx(artifact.path)
    assert model.digest == artifact.digest
    assert artifact.lineage[-1].config["precision"] == str(precision)
    typed_graph = onnx.load(artifact.path)
    assert {node.domain for node in typed_graph.graph.node} == {""}
    assert {entry.key: entry.value for entry in typed_graph.metadata_props}["linglos.precision"] == str(precision)


def test_pixels_are_normalized_in_float32(classifier, run_onnx, tmp_path):
    config = ExportConfig(embed_preprocessing=True, precision=Precision.FP16)
    artifact = export_onnx(classifier, config, out=tmp_path / "pixels.onnx")
    half = convert_precision(artifact, Precision.FP16, out=tmp_path / "half.onnx")
    types = value_types(onnx.load(half.path))
    assert types["preprocess/Div"] == types["preprocess/Sub"] == TensorProto.FLOAT


def _retyped(model: onnx.ModelProto, *, float32: Collection[str] = (), float32_io: bool = True) -> onnx.ModelProto:
    typed = ir.from_proto(onnx.shape_inference.infer_shapes(model))

    def islands(found: ir.Model, _: ir.DataType) -> dict[ir.Node, str]:
        return {node: "as asked" for node in found.graph if node.name in float32}

    RetypeFloats(ir.DataType.FLOAT16, islands=islands, float32_io=float32_io)(typed)
    return ir.to_proto(typed)


def test_a_qdq_graph_gets_sixteen_bit_scales(run_onnx, tmp_path):
    qdq = [
        helper.make_node("QuantizeLinear", ["x", "s", "zero"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "s", "zero"], ["d"], name="d"),
        helper.make_node("MatMul", ["d", "w"], ["y"], name="m"),
    ]
    weights = {"s": np.float32(0.5), "zero": np.int8(0), "w": np.eye(4, dtype=np.float32)}
    path = tmp_path / "qdq.onnx"
    onnx.save(graph(qdq, {name: np.asarray(array) for name, array in weights.items()}), path)
    half = convert_precision(open_onnx(path), Precision.INT8_FP16, out=tmp_path / "half.onnx")
    model = onnx.load(half.path)
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert types == {"s": TensorProto.FLOAT16, "zero": TensorProto.INT8, "w": TensorProto.FLOAT16}
    (y,) = run_onnx(half.path, {"x": np.float32([[0.3, 0.8, -1.0, 2.0]])})
    np.testing.assert_array_equal(y, np.float32([[0.5, 1.0, -1.0, 2.0]]))


def test_a_weight_beyond_float16_is_named(tmp_path):
    path = tmp_path / "large.onnx"
    onnx.save(graph([helper.make_node("MatMul", ["x", "w"], ["y"], name="m")], {"w": np.full((4, 4), 1e5, "f")}), path)
    with pytest.raises(ExportError, match="'w' does not fit into float16"):
        convert_precision(open_onnx(path), Precision.FP16, out=tmp_path / "half.onnx")
    assert convert_precision(open_onnx(path), Precision.BF16, out=tmp_path / "brain.onnx").path.exists()


@pytest.mark.parametrize(("size", "stored"), [(64, ["w"]), (4, ["w", "w/float16"])])
def test_a_weight_read_on_both_sides_is_stored_once_unless_it_is_small(size, stored):
    w = np.eye(size, dtype=np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="sixteen"),
        helper.make_node("MatMul", ["a", "w"], ["b"], name="wide"),
        helper.make_node("Softmax", ["b"], ["y"], name="softmax"),
    ]
    shape = ["n", size]
    model = graph(nodes, {"w": w}, inputs={"x": shape}, outputs={"y": shape})
    model = _retyped(model, float32=["wide", "softmax"])
    assert [tensor.name for tensor in model.graph.initializer] == stored
    assert model.graph.initializer[0].data_type == TensorProto.FLOAT


def test_layout_changes_side_with_their_readers():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="m"),
        helper.make_node("Transpose", ["a"], ["t"], name="t"),
        helper.make_node("Softmax", ["t"], ["y"], name="s"),
    ]
    model = _retyped(graph(nodes, {"w": np.eye(4, dtype=np.float32)}), float32=["s"])
    assert [node.op_type for node in model.graph.node] == ["Cast", "MatMul", "Cast", "Transpose", "Softmax"]


def test_islands_name_their_reason(float32):
    model = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.load(float32.path)))
    islands = {node.name: reason for node, reason in float32_islands(model, ir.DataType.FLOAT16).items()}
    assert islands["stages.0.1.attention.gate/Softmax"] == "softmax"
    assert islands["stages.0.1.attention.gate/MatMul"] == "scores of a softmax"
    assert "stages.0.1.attention.context/MatMul" not in islands


def test_ranges_near_the_end_of_float16_are_warned_of_by_name(float32, tmp_path):
    class Listening(Silent):
        def __init__(self) -> None:
            self.heard: list[str] = []

        def warn(self, message: str) -> None:
            self.heard.append(message)

    ranges = {"stem.1/Gelu": 20000.0, "stem.0.0/Conv": 5.0, "stem.3/Gelu": 70000.0, "unknown": 1e9}
    listening = Listening()
    convert_precision(float32, Precision.FP16, out=tmp_path / "half.onnx", ranges=ranges, progress=listening)
    assert [message.split("'")[1] for message in listening.heard] == ["stem.3/Gelu", "stem.1/Gelu"]
    kept = value_types(onnx.load(tmp_path / "half.onnx"))
    assert kept["stem.3/Gelu"] == kept["stem.1/Gelu"] == TensorProto.FLOAT
    assert kept["stem.0.0/Conv"] == TensorProto.FLOAT16
    assert range_warnings(onnx.load(float32.path), ir.DataType.BFLOAT16, ranges) == ()


def test_only_sixteen_bit_precisions_are_taken(float32, tmp_path):
    with pytest.raises(UsageError, match="not a 16-bit precision"):
        convert_precision(float32, Precision.INT8, out=tmp_path / "no.onnx")


def test_explicit_rounding_rounds_every_stored_tensor(run_onnx, tmp_path):
    nodes = [helper.make_node("Mul", ["x", "w"], ["a"], name="m"), helper.make_node("Add", ["a", "w"], ["y"], name="s")]
    narrow = _retyped(graph(nodes, {"w": np.float32([1 / 3] * 4)}), float32_io=False)
    onnx.save(with_explicit_rounding(narrow), tmp_path / "rounded.onnx")
    x = np.float32([[1, 3, 100, 60000]])
    (y,) = run_onnx(tmp_path / "rounded.onnx", {"x": x})
    w = np.float16(1 / 3)
    product = (x * np.float32(w)).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(y, (product + np.float32(w)).astype(np.float16).astype(np.float32))
