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
    output_type: int = TensorProto.FLOAT,
    input_shape: Sequence[Any] = ("batch", 4),
    output_shape: Sequence[Any] = ("batch", 3),
    domains: Sequence[str] = (),
) -> OnnxArtifact:
    """Save a graph from ``image`` to ``logits``."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, list(input_shape))],
        [helper.make_tensor_value_info("logits", output_type, list(output_shape))],
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
