"""Graphs written by hand, and the two ways to run one: as it is, and with 16-bit rounding written out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.exporters.rounding import with_explicit_rounding

Feeds = Mapping[str, np.ndarray]


def graph(
    nodes: Sequence[onnx.NodeProto],
    weights: Mapping[str, object] | None = None,
    *,
    inputs: Mapping[str, Sequence[int | str]] | None = None,
    outputs: Mapping[str, Sequence[int | str] | None] | None = None,
    element: int = TensorProto.FLOAT,
    opset: int = 20,
) -> onnx.ModelProto:
    """Return a model of ``nodes``, by default from ``x`` to ``y``, both of ``n`` rows of four numbers."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        list(nodes),
        "g",
        [value(name, element, shape) for name, shape in (inputs or {"x": ["n", 4]}).items()],
        [value(name, element, shape) for name, shape in (outputs or {"y": ["n", 4]}).items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()],
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def run(model: onnx.ModelProto | Path, feeds: Feeds) -> list[np.ndarray]:
    """Run a graph on one thread of ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, dict(feeds))
    return outputs


def run_rounded(model: onnx.ModelProto, feeds: Feeds) -> list[np.ndarray]:
    """Run a typed 16-bit graph with its rounding written out."""
    return run(with_explicit_rounding(model), feeds)


def decibels(expected: np.ndarray, found: np.ndarray) -> float:
    """Return the signal-to-noise ratio in dB; minus infinity where something is not finite that should be."""
    if not np.array_equal(np.isfinite(expected), np.isfinite(found)):
        return -np.inf
    finite = np.isfinite(expected)
    noise = float(np.square(expected[finite].astype(np.float64) - found[finite]).sum())
    signal = float(np.square(expected[finite].astype(np.float64)).sum())
    return 300.0 if noise == 0.0 else 10.0 * np.log10(max(signal, 1e-300) / noise)
