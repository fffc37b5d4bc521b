"""A graph in a later opset, checked to answer the same."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from linglos_deploy.artifacts import OnnxArtifact, Step, load_onnx, onnx_signature, open_onnx, tool_versions
from linglos_deploy.backends.base import Runtime
from linglos_deploy.errors import ExportError
from linglos_deploy.files import atomic_file, sha256_bytes
from linglos_deploy.graph.opset import opset_of, to_opset
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.signature import Batch

TOLERANCE = 1e-4
"""Largest difference, as a share of the largest magnitude: other kernels add up in another order, and no more."""


def convert_opset(
    model: OnnxArtifact,
    version: int,
    batches: Iterable[Batch],
    *,
    runtime: Runtime,
    out: Path,
    progress: Progress = SILENT,
) -> OnnxArtifact:
    """Write a graph in a later opset, having seen that it answers the same; the graph itself if it is there already.

    Args:
        model: A graph of opset 7 or later.
        version: The wanted opset.
        batches: Inputs to check it on; those of :func:`~linglos_deploy.graph.feeds.synthetic_feeds` will do.
        runtime: Runs both, optimizations off where it has them.
        out: Where the file goes; written whole or not at all.
        progress: Told of the conversion and of the largest difference.

    Raises:
        UsageError: The graph is of a later opset, or of one before 7.
        ExportError: It cannot be converted, or answers something else afterwards.
        DataError: A batch does not fit the graph.
        RunError: The graph cannot be run.
    """
    before = load_onnx(model.path)
    found = opset_of(before)
    if found == version:
        return model
    converted = to_opset(before, version)
    data = converted.SerializeToString(deterministic=True)
    with progress.stage(f"Converting from opset {found} to {version}"), TemporaryDirectory() as folder:
        candidate = Path(folder) / "converted.onnx"
        candidate.write_bytes(data)
        worst = _largest_difference(model, open_onnx(candidate), batches, runtime, version)
    progress.warn(f"'{model.path.name}' is of opset {found} and was converted to {version}: {worst}.")
    with atomic_file(out) as partial:
        partial.write_bytes(data)
    step = Step(
        stage="opset",
        inputs={"graph": model.digest},
        config={"from": found, "to": version},
        tools=tool_versions("linglos-deploy", "onnx"),
    )
    return OnnxArtifact(out, onnx_signature(converted), sha256_bytes(data), (*model.lineage, step))


def _largest_difference(
    before: OnnxArtifact, after: OnnxArtifact, batches: Iterable[Batch], runtime: Runtime, version: int
) -> str:
    """Compare the answers and return the largest difference in words."""
    worst, share = 0.0, 0.0
    with runtime.open(before) as old, runtime.open(after) as new:
        for batch in batches:
            expected = {name: np.array(value) for name, value in old.run(batch).items()}
            for name, value in new.run(batch).items():
                difference, relative = _difference(expected[name], np.asarray(value))
                if relative > TOLERANCE:
                    raise ExportError(
                        f"In opset {version} the graph answers something else.",
                        found=f"output '{name}' differs by {difference:.3g}, {relative:.2%} of its largest magnitude",
                        expected=f"at most {TOLERANCE:.2%}",
                        next_step=f"export the model again with opset {version}; onnx's converter lost something",
                    )
                worst, share = max(worst, difference), max(share, relative)
    return f"its answers differ by {worst:.2g} at most" if worst else "its answers are the same, bit for bit"


def _difference(expected: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Return the largest difference, and the same as a share of the largest finite magnitude."""
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return np.inf, np.inf
    if expected.size == 0:
        return 0.0, 0.0
    if expected.dtype.kind not in "f":
        return (0.0, 0.0) if np.array_equal(expected, found) else (np.inf, np.inf)
    left, right = expected.astype(np.float64), found.astype(np.float64)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    if same.all():
        return 0.0, 0.0
    gaps = np.abs(np.where(same, 0.0, left) - np.where(same, 0.0, right))
    difference = float(gaps.max())  # NaN where only one of them is
    largest = float(np.abs(left[np.isfinite(left)]).max(initial=np.finfo(np.float32).tiny))
    return (difference, difference / largest) if np.isfinite(difference) else (np.inf, np.inf)
