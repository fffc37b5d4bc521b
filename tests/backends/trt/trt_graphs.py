"""Small ONNX graphs that the TensorRT tests compile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.artifacts import OnnxArtifact, open_onnx

WEIGHT = numpy_helper.from_array(np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3), "weight")


def save_graph(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    *,
    initializers: Sequence[onnx.TensorProto] = (WEIGHT,),
    element: int = TensorProto.FLOAT,
    output_type: int | None = None,
    input_shape: Sequence[Any] = ("batch", 4),
    output_shape: Sequence[Any] = ("batch", 3),
    domains: Sequence[str] = (),
) -> OnnxArtifact:
    """Save a graph from ``image`` to ``logits``."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("image", element, list(input_shape))],
        [helper.make_tensor_value_info("logits", element if output_type is None else output_type, list(output_shape))],
        list(initializers),
    )
    imports = [helper.make_opsetid("", 20), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    onnx.save(model, path)
    return open_onnx(path)


def save_linear(folder: Path) -> OnnxArtifact:
    """Save one linear layer, called ``head.fc/MatMul``."""
    return save_graph(folder, [helper.make_node("MatMul", ["image", "weight"], ["logits"], name="head.fc/MatMul")])


PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int8+fp16")
_ELEMENTS = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


def save_convnet(folder: Path, precision: str, *, dynamic: bool = False) -> OnnxArtifact:
    """Save a convolution, a pooling and a linear layer in one of the precisions that we deploy.

    Everything around the Q/DQ pairs of ``int8`` is float32, of ``int8+fp16`` float16, scales included.
    """
    rng = np.random.default_rng(0)
    quantized = precision.startswith("int8")
    element = _ELEMENTS[{"int8": "fp32", "int8+fp16": "fp16"}.get(precision, precision)]
    initializers: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, values: Any, kind: int) -> str:
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        initializers.append(numpy_helper.from_array(np.asarray(values).astype(dtype), name))
        return name

    def weight(name: str, shape: tuple[int, ...]) -> str:
        values = rng.normal(size=shape)
        if not quantized:
            return constant(name, values, element)
        data = constant(f"{name}.int8", np.clip(np.round(values * 40), -127, 127), TensorProto.INT8)
        scale = constant(f"{name}.scale", np.full(shape[0], 1 / 40), element)
        zero = constant(f"{name}.zero", np.zeros(shape[0]), TensorProto.INT8)
        nodes.append(
            helper.make_node("DequantizeLinear", [data, scale, zero], [name], axis=0, name=f"{name}/DequantizeLinear")
        )
        return name

    def activation(name: str) -> str:
        if not quantized:
            return name
        scale = constant(f"{name}.scale", 0.05, element)
        zero = constant(f"{name}.zero", 0, TensorProto.INT8)
        nodes.append(helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}.q"], name=f"{name}/Quantize"))
        nodes.append(
            helper.make_node("DequantizeLinear", [f"{name}.q", scale, zero], [f"{name}.dq"], name=f"{name}/Dequantize")
        )
        return f"{name}.dq"

    nodes.append(
        helper.make_node(
            "Conv",
            [activation("image"), weight("stem.weight", (8, 3, 3, 3))],
            ["features"],
            name="stem/Conv",
            pads=[1] * 4,
        )
    )
    nodes.append(helper.make_node("GlobalAveragePool", ["features"], ["pooled"], name="head.pool/GlobalAveragePool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], name="head.flatten/Flatten"))
    nodes.append(
        helper.make_node(
            "Gemm", [activation("flat"), weight("head.weight", (5, 8))], ["logits"], name="head.fc/Gemm", transB=1
        )
    )
    size = ("height", "width") if dynamic else (16, 16)
    return save_graph(
        folder,
        nodes,
        initializers=initializers,
        element=element,
        input_shape=("batch", 3, *size),
        output_shape=("batch", 5),
    )
