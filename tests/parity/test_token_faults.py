"""Faults of a network of tokens, not of images, in float32 and in INT8, are caught with two graphs and a plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import linglos_deploy
from linglos_deploy.quantization.scheme import QuantScheme
from linglos_deploy.verbs.check_parity import ParityRequest, check
from tests.parity.faults import edits

pytestmark = pytest.mark.xdist_group("tokens")


@dataclass(frozen=True, slots=True)
class Tokens:
    """A graph of tokens, its INT8 form, its plan and sequences."""

    parent: Path
    int8: Path
    plan: Path
    data: Path


def token_graph() -> onnx.ModelProto:
    """Attention and an MLP over N x 6 x 6 tokens: batch first, and no axis of it a channel of images."""
    rng = np.random.default_rng(4)
    weights = {
        **{name: rng.normal(size=(6, 6)) * 0.7 for name in ("query", "key", "value")},
        "up": rng.normal(size=(6, 12)) * 0.6,
        "down": rng.normal(size=(12, 6)) * 0.6,
        "scale": rng.uniform(0.5, 1.5, 6),
        "shift": rng.normal(size=6) * 0.1,
        "bias": rng.normal(size=12) * 0.2,
        "root": np.array(6**-0.5),
        "ends.low": np.array(-3.0),
        "ends.high": np.array(3.0),
    }
    node = helper.make_node
    nodes = [
        node("LayerNormalization", ["tokens", "scale", "shift"], ["normed"], "norm", axis=-1),
        node("MatMul", ["normed", "query"], ["q"], "q"),
        node("MatMul", ["normed", "key"], ["k"], "k"),
        node("MatMul", ["normed", "value"], ["v"], "v"),
        node("Transpose", ["k"], ["kt"], "kt", perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["products"], "products"),
        node("Mul", ["products", "root"], ["scores"], "scores"),
        node("Softmax", ["scores"], ["shares"], "shares", axis=-1),
        node("MatMul", ["shares", "v"], ["mixed"], "mixed"),
        node("Add", ["tokens", "mixed"], ["first"], "first"),
        node("Clip", ["first", "ends.low", "ends.high"], ["clipped"], "clipped"),
        node("MatMul", ["clipped", "up"], ["wide"], "wide"),
        node("Add", ["wide", "bias"], ["biased"], "biased"),
        node("Gelu", ["biased"], ["bent"], "bent"),
        node("MatMul", ["bent", "down"], ["narrow"], "narrow"),
        node("Add", ["first", "narrow"], ["answer"], "answer"),
    ]
    graph = helper.make_graph(
        nodes,
        "tokens",
        [helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["batch", 6, 6])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["batch", 6, 6])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    folder = tmp_path_factory.mktemp("tokens")
    made = Tokens(*(folder / name for name in ("model.onnx", "model.int8.onnx", "plan.json", "tokens.npz")))
    onnx.save(token_graph(), made.parent)
    values = np.random.default_rng(0).normal(size=(24, 6, 6)).astype(np.float32)
    np.savez(made.data, tokens=values)
    linglos_deploy.calibrate(made.parent, made.data, folder / "calibration.table", threads=1)
    scheme = QuantScheme(narrow=True)  # no layer here has 16 channels
    linglos_deploy.quantize(
        made.parent, made.int8, table=folder / "calibration.table", scheme=scheme, save_plan=made.plan
    )
    return made


def retyped(model: onnx.ModelProto) -> None:
    """INT16 instead of INT8: nothing is clipped any more."""
    quantizer = edits.nodes(model, "QuantizeLinear")[0]
    zero = edits.add_constant(model, "wide/zero", np.array(0, np.int16))
    for found in (
        quantizer,
        *(it for it in edits.nodes(model, "DequantizeLinear") if it.input[0] == quantizer.output[0]),
    ):
        found.input[2] = zero
    for value in model.graph.value_info:
        if value.name == quantizer.output[0]:
            value.type.tensor_type.elem_type = TensorProto.INT16
    model.opset_import[0].version = 21


def shifted(*kinds: str) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        quantizer = edits.nodes(model, "QuantizeLinear")[1]
        reader = next(it for it in edits.nodes(model, "DequantizeLinear") if it.input[0] == quantizer.output[0])
        for found in (quantizer, reader):
            if found.op_type in kinds:
                edits.change(model, edits.own(model, found, 2), lambda zero: zero + 1)

    return edit


def weight_dequantizer(model: onnx.ModelProto) -> onnx.NodeProto:
    names = {tensor.name for tensor in model.graph.initializer}
    return next(it for it in edits.nodes(model, "DequantizeLinear") if it.input[0] in names)


def four_bits(model: onnx.ModelProto) -> None:
    """INT4 weights with scales of their own: right for themselves, and not what was planned."""
    reader = weight_dequantizer(model)
    edits.change(model, reader.input[0], lambda values: np.rint(values / 18.0))
    edits.change(model, edits.own(model, reader, 1), lambda scales: scales * 18)


def rotated_scales(model: onnx.ModelProto) -> None:
    edits.change(model, edits.own(model, weight_dequantizer(model), 1), lambda scales: np.roll(scales, 2))


def larger_integers(model: onnx.ModelProto) -> None:
    edits.change(model, weight_dequantizer(model).input[0], lambda values: np.where(values > 60, values + 1, values))


def exchanged_scales(model: onnx.ModelProto) -> None:
    """Two pairs, each consistent, each with the other's scale."""
    first, second = edits.nodes(model, "QuantizeLinear")[:2]
    values = [edits.constant(model, found.input[1]) for found in (first, second)]
    assert values[0] != values[1]
    edits.change(model, first.input[1], lambda _: values[1])
    edits.change(model, second.input[1], lambda _: values[0])


INT8_FAULTS: dict[str, Callable[[onnx.ModelProto], None]] = {
    "an activation of INT16": retyped,
    "a zero point off by one in Quantize": shifted("QuantizeLinear"),
    "a zero point off by one in Dequantize": shifted("DequantizeLinear"),
    "a zero point off by one in both": shifted("QuantizeLinear", "DequantizeLinear"),
    "weights of 4 bits": four_bits,
    "scales of other channels": rotated_scales,
    "large integers off by one": larger_integers,
    "scales of two tensors exchanged": exchanged_scales,
}
WIRING_FAULTS: dict[str, Callable[[onnx.ModelProto], None]] = {
    "softmax over queries": lambda model: edits.set_attribute(edits.node(model, "shares"), "axis", 1),
    "tanh for erf": lambda model: edits.set_attribute(edits.node(model, "bent"), "approximate", "tanh"),
    "keys not transposed": lambda model: edits.set_attribute(edits.node(model, "kt"), "perm", [0, 1, 2]),
    "a clip that is missing": lambda model: edits.rewire(model, "clipped", "first"),
    "a normalization over tokens": lambda model: edits.set_attribute(edits.node(model, "norm"), "axis", 1),
    "values of the unnormalized tokens": lambda model: edits.node(model, "v").input.__setitem__(0, "tokens"),
    "a shortcut from another place": lambda model: edits.rewire(
        model, "first", "tokens", keep=[it.name for it in model.graph.node if it.name != "answer"]
    ),
    "a twentieth of a bias": lambda model: edits.change(model, "bias", lambda bias: bias * 1.05),
    "a leak of a twentieth between sequences": lambda model: _leak(model, "mixed"),
}


def _leak(model: onnx.ModelProto, tensor: str) -> None:
    axes = edits.add_constant(model, "axes", np.array([0]))
    parts = [edits.add_constant(model, f"part{part}", np.float32(part)) for part in (0.95, 0.05)]
    edits.tap(
        model,
        tensor,
        lambda before, after: [
            helper.make_node("ReduceMean", [before, axes], ["mean"], "mean", keepdims=1),
            helper.make_node("Mul", [before, parts[0]], ["own"], "own"),
            helper.make_node("Mul", ["mean", parts[1]], ["others"], "others"),
            helper.make_node("Add", ["own", "others"], [after], "leak"),
        ],
    )


def judged(tokens: Tokens, graph: onnx.ModelProto, folder: Path, *, plan: bool) -> bool:
    onnx.save(graph, folder / "faulty.onnx")
    request = ParityRequest(
        folder / "faulty.onnx",
        reference=tokens.parent,
        data=tokens.data,
        threads=1,
        plan=tokens.plan if plan else None,
    )
    return check(request).passed


def test_clean_graphs_of_tokens_pass(tokens: Tokens, tmp_path: Path) -> None:
    assert judged(tokens, onnx.load(tokens.parent), tmp_path, plan=False)
    assert judged(tokens, onnx.load(tokens.int8), tmp_path, plan=True)
    assert len(edits.nodes(onnx.load(tokens.int8), "QuantizeLinear")) >= 3


@pytest.mark.parametrize("name", WIRING_FAULTS)
def test_a_fault_in_the_wiring_of_tokens_is_caught(tokens: Tokens, name: str, tmp_path: Path) -> None:
    for path, plan in ((tokens.parent, False), (tokens.int8, True)):
        faulty = onnx.load(path)
        WIRING_FAULTS[name](faulty)
        assert not judged(tokens, faulty, tmp_path, plan=plan), path.name


@pytest.mark.parametrize("name", INT8_FAULTS)
def test_a_fault_in_the_rounding_of_tokens_is_caught(tokens: Tokens, name: str, tmp_path: Path) -> None:
    faulty = onnx.load(tokens.int8)
    INT8_FAULTS[name](faulty)
    assert not judged(tokens, faulty, tmp_path, plan=True)
