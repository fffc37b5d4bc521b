"""Small graphs with every kind of node that a quantization plan decides about, and calibration tables for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.artifacts import OnnxArtifact, open_onnx
from linglos_deploy.calibration.observers import observe
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.images.preprocessing import PreprocessSpec

SIDE, CHANNELS, HEADS, CLASSES = 4, 8, 2, 5


def attention_model(*, element: int = TensorProto.FLOAT, opset: int = 20, seed: int = 0) -> onnx.ModelProto:
    """A stem, a depthwise convolution, one key-only attention layer with meaningless names, and a linear head.

    ``image`` is N x 3 x 4 x 4, ``logits`` N x 5. The tensor ``x`` is read by three convolutions, one of them a gate.
    """
    random = np.random.default_rng(seed)
    dtype = helper.tensor_dtype_to_np_dtype(element)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((random.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(dtype), name)

    def fixed(name: str, values: list[int]) -> onnx.TensorProto:
        return numpy_helper.from_array(np.array(values, np.int64), name)

    nodes = [
        helper.make_node("Conv", ["image", "w0", "b0"], ["stem"], "n0", pads=[1, 1, 1, 1]),
        helper.make_node("Gelu", ["stem"], ["act"], "n1"),
        helper.make_node("Conv", ["act", "w1"], ["x"], "n2", pads=[1, 1, 1, 1], group=CHANNELS),
        helper.make_node("Conv", ["x", "wk", "bk"], ["key"], "n3"),
        helper.make_node("Conv", ["x", "wg"], ["t0"], "n4"),
        helper.make_node("Reshape", ["t0", "flat"], ["t1"], "n5"),
        helper.make_node("Softmax", ["t1"], ["weights"], "n6", axis=-1),
        helper.make_node("Unsqueeze", ["weights", "last"], ["column"], "n7"),
        helper.make_node("Conv", ["x", "wv"], ["value"], "n8"),
        helper.make_node("Reshape", ["value", "split"], ["values"], "n9"),
        helper.make_node("MatMul", ["values", "column"], ["context"], "n10"),
        helper.make_node("Reshape", ["context", "global"], ["broadcast"], "n11"),
        helper.make_node("Mul", ["key", "broadcast"], ["mixed"], "n12"),
        helper.make_node("Conv", ["mixed", "wo"], ["attended"], "n13"),
        helper.make_node("Add", ["x", "attended"], ["sum"], "n14"),
        helper.make_node("GlobalAveragePool", ["sum"], ["pooled"], "n15"),
        helper.make_node("Flatten", ["pooled"], ["vector"], "n16"),
        helper.make_node("MatMul", ["vector", "wm"], ["hidden"], "n17"),
        helper.make_node("Gemm", ["hidden", "wh", "bh"], ["logits"], "n18", transB=1),
    ]
    weights = [
        weight("w0", CHANNELS, 3, 3, 3),
        weight("b0", CHANNELS),
        weight("w1", CHANNELS, 1, 3, 3),
        weight("wk", CHANNELS, CHANNELS, 1, 1),
        weight("bk", CHANNELS),
        weight("wg", HEADS, CHANNELS, 1, 1),
        weight("wv", CHANNELS, CHANNELS, 1, 1),
        weight("wo", CHANNELS, CHANNELS, 1, 1),
        weight("wm", CHANNELS, 6),
        weight("wh", CLASSES, 6),
        weight("bh", CLASSES),
        fixed("flat", [0, HEADS, -1]),
        fixed("last", [-1]),
        fixed("split", [0, HEADS, CHANNELS // HEADS, -1]),
        fixed("global", [0, CHANNELS, 1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "attention",
        [helper.make_tensor_value_info("image", element, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", element, ["batch", CLASSES])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def graph_of(nodes: list[onnx.NodeProto], weights: Mapping[str, np.ndarray], *, rank: int = 4) -> onnx.ModelProto:
    """A graph from float ``x`` to the output of its last node."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None] * rank)],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, [None] * rank)],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def write(model: onnx.ModelProto, path: Path) -> OnnxArtifact:
    """Write a model and open it."""
    path.write_bytes(model.SerializeToString(deterministic=True))
    return open_onnx(path)


def images(count: int = 8, *, seed: int = 0) -> np.ndarray:
    """Return float32 images of shape (count, 3, 4, 4)."""
    return np.random.default_rng(seed).normal(size=(count, 3, SIDE, SIDE)).astype(np.float32)


def table_for(artifact: OnnxArtifact, tensors: Mapping[str, np.ndarray]) -> CalibrationTable:
    """Return a table of what ``tensors`` hold."""
    return CalibrationTable(
        tensors={name: observe(values.astype(np.float32)) for name, values in tensors.items()},
        graph_digest=artifact.digest,
        preprocess=PreprocessSpec(),
        data_digest="d" * 64,
        image_count=8,
    )


def calibrated(model: onnx.ModelProto, path: Path) -> tuple[OnnxArtifact, CalibrationTable]:
    """Write a model; run it on eight images with the reference evaluator of ONNX; return it with its table."""
    from onnx.reference import ReferenceEvaluator

    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    names = ["image", *(name for node in model.graph.node for name in node.output)]
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names[1:])
    element = model.graph.input[0].type.tensor_type.elem_type
    image = images().astype(helper.tensor_dtype_to_np_dtype(element))
    values = ReferenceEvaluator(probe).run(None, {"image": image})
    artifact = write(model, path)
    return artifact, table_for(artifact, dict(zip(names, [image, *values], strict=True)))


def branching_model() -> onnx.ModelProto:
    """Linear layers ``before`` and ``after`` an If whose branches, one nested deeper, hold layers of their own.

    ``x`` is N x 4, ``ask`` a truth value, ``y`` N x 4.
    """
    value = helper.make_tensor_value_info
    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32), "w")

    def branch(name: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
        return helper.make_graph(list(nodes), name, [], [value(nodes[-1].output[0], TensorProto.FLOAT, ["n", 4])])

    deeper = branch("deeper", helper.make_node("MatMul", ["t", "w"], ["inner"], "nested"))
    shallow = branch("shallow", helper.make_node("Identity", ["t"], ["inner"]))
    then = branch(
        "then",
        helper.make_node("MatMul", ["a", "w"], ["t"], "then"),
        helper.make_node("If", ["ask"], ["chosen"], "again", then_branch=deeper, else_branch=shallow),
    )
    other = branch("else", helper.make_node("MatMul", ["a", "w"], ["chosen"], "else"))
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["a"], "before"),
            helper.make_node("If", ["ask"], ["b"], "choose", then_branch=then, else_branch=other),
            helper.make_node("MatMul", ["b", "w"], ["y"], "after"),
        ],
        "branching",
        [value("x", TensorProto.FLOAT, ["n", 4]), value("ask", TensorProto.BOOL, [])],
        [value("y", TensorProto.FLOAT, ["n", 4])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
