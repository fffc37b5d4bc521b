"""Is a float32 graph what its PyTorch model exports to? A proof where measuring ends: branches never taken."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from linglos_deploy.artifacts import OnnxArtifact, TorchModel, load_onnx, tool_versions
from linglos_deploy.choices import Precision
from linglos_deploy.errors import LinglosError
from linglos_deploy.parity.structure import prove
from linglos_deploy.reports.parity import Finding
from linglos_deploy.verbs.locating import export_again

NAME = "it is what the PyTorch model exports to"
LAST_BITS = 2.0**-20
"""How far a constant may be from the fresh one, as a share of its largest: processors fold in their own order."""


def check_export(model: TorchModel, graph: OnnxArtifact) -> Finding:
    """Export a model as ``graph`` was exported, and compare both by structure.

    Left open where that cannot tell: other versions of the exporters are here, or forms were chosen by measuring.
    """
    step = next((step for step in graph.lineage if step.stage == "export"), None)
    expected = "the operators, attributes, wiring and constants of a fresh export"
    if step is None or step.config.get("decomposition") == "measured":
        return Finding(NAME, None, "not compared: exporting again may choose otherwise", expected)
    try:
        with tempfile.TemporaryDirectory(prefix="linglos-again-") as folder:
            fresh = load_onnx(export_again(model, graph, Path(folder) / "again.onnx").path)
    except LinglosError as error:
        return Finding(NAME, None, f"not compared: {error.message}", expected)
    proof = prove(fresh, with_last_bits(load_onnx(graph.path), fresh), Precision.FP32)
    if proof.passed:
        return Finding(NAME, True, f"{proof.nodes} nodes and {proof.constants} constants", expected)
    first = proof.differences[0]
    found = f"{len(proof.differences)} differences, first at '{first.node}': {first.what}, {first.found}"
    here = tool_versions(*step.tools)
    other = [f"{tool} {version}" for tool, version in step.tools.items() if here.get(tool) != version]
    if other:
        return Finding(NAME, None, f"{found}; it was exported with {', '.join(other)}", expected, node=first.node)
    return Finding(NAME, False, found, f"{expected}: {first.expected}", node=first.node)


def with_last_bits(graph: onnx.ModelProto, fresh: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``graph`` with those of ``fresh``'s constants that are its own but for the last bits."""
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    theirs = {tensor.name: tensor for tensor in fresh.graph.initializer}
    for tensor in copy.graph.initializer:
        other = theirs.get(tensor.name)
        if other is not None and _nearly(numpy_helper.to_array(tensor), numpy_helper.to_array(other)):
            tensor.CopyFrom(other)
    return copy


def _nearly(own: np.ndarray, other: np.ndarray) -> bool:
    if own.shape != other.shape or own.dtype != other.dtype or own.dtype.kind != "f":
        return False
    largest = float(np.abs(other[np.isfinite(other)]).max(initial=0.0))
    return bool(np.allclose(own, other, rtol=0, atol=LAST_BITS * largest, equal_nan=True))
