"""Constants are computed and small operators merged by onnxsim; then both graphs run, to see that they still agree."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from linglos_deploy.artifacts import TorchModel, open_onnx
from linglos_deploy.backends import registry
from linglos_deploy.errors import ExportError, LinglosError
from linglos_deploy.graph.feeds import index_ranges
from linglos_deploy.signature import Batch

SKIPPED = ("fuse_attention",)
"""Optimizations of onnxsim that leave the standard operators (``com.microsoft::Attention``)."""

TOLERANCE = 1e-4
"""Largest difference, relative to an output's largest value, that merging and reordering sums explains."""

NUDGE = 1e-6
"""How much the inputs are changed, relatively, to see how ill-conditioned a graph is: a few units of float32."""

AMPLIFICATION = 10.0
"""A difference up to this many times the one that the nudge makes is rounding, not another function."""


@dataclass(frozen=True, slots=True)
class Simplified:
    """A graph and what is to be said about it."""

    graph: onnx.ModelProto
    warnings: tuple[str, ...] = ()


def simplify(graph: onnx.ModelProto, model: TorchModel) -> Simplified:
    """Return the graph with constants folded; the graph as it came where that would change what it computes.

    Args:
        graph: As PyTorch's exporter leaves it.
        model: Says what the inputs look like.

    Raises:
        ExportError: The graph cannot be simplified.
    """
    simplified = shorten(graph)
    change = _change(graph, simplified, model)
    if change is None:
        return Simplified(simplified)
    return Simplified(graph, (f"Simplifying would change what the graph computes, so it was left out: {change}.",))


def shorten(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return what onnxsim makes of the graph, in standard operators.

    Raises:
        ExportError: It fails.
    """
    import onnxsim

    try:
        with _without_native_output():
            simplified, _ = onnxsim.simplify(graph, skipped_optimizers=list(SKIPPED))
    except Exception as error:  # onnxsim raises bare RuntimeError and its binding's own kinds
        raise ExportError("The graph cannot be simplified.", found=str(error).strip().splitlines()[0]) from error
    result: onnx.ModelProto = simplified
    return result


@contextmanager
def _without_native_output() -> Iterator[None]:
    """Hold back what native code writes past Python: onnxsim tells of every constant that it leaves alone."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _change(before: onnx.ModelProto, after: onnx.ModelProto, model: TorchModel) -> str | None:
    """Run both graphs on the same seeded inputs and describe how they differ; ``None`` if only by rounding."""
    inputs = _inputs(before, model)
    with tempfile.TemporaryDirectory(prefix="linglos-simplify-") as folder:
        try:
            expected = _run(before, inputs, Path(folder) / "before.onnx")
        except LinglosError:
            return None  # no runtime to compare with; parity has the last word
        found = _run(after, inputs, Path(folder) / "after.onnx")
        differences = {name: _difference(expected[name], found[name]) for name in expected}
        worst = max(differences, key=lambda name: differences[name], default="")
        if not differences or differences[worst] <= TOLERANCE:
            return None
        nudged = _run(before, _nudge(inputs), Path(folder) / "before.onnx")
    rounding = _difference(expected[worst], nudged[worst])
    if differences[worst] <= AMPLIFICATION * rounding:
        return None
    return (
        f"output '{worst}' differs by {differences[worst]:.1e} of its largest value, "
        f"where a change of the input by {NUDGE:g} makes {rounding:.1e}"
    )


def _inputs(graph: onnx.ModelProto, model: TorchModel) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    first = graph.graph.input[0].type.tensor_type.shape.dim
    batch = first[0].dim_value if len(first) and first[0].HasField("dim_value") else 2
    shapes = model.input_shapes(batch=batch)
    present = {value.name for value in graph.graph.input}
    rows = index_ranges(graph)
    return {
        spec.name: generator.standard_normal(shapes[spec.name]).astype(spec.dtype)
        if spec.dtype.startswith("float")
        else generator.integers(0, rows.get(spec.name, 2), shapes[spec.name]).astype(spec.dtype)
        for spec in model.inputs
        if spec.name in present
    }


def _nudge(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name: array * array.dtype.type(1 + NUDGE) if array.dtype.kind == "f" else array
        for name, array in inputs.items()
    }


def _run(graph: onnx.ModelProto, inputs: Batch, path: Path) -> dict[str, np.ndarray]:
    onnx.save(graph, path)
    with registry.runtime("onnxruntime").open(open_onnx(path)) as runner:
        return {name: np.array(array) for name, array in runner.run(inputs).items()}


def _difference(expected: np.ndarray, found: np.ndarray) -> float:
    """Return the largest difference relative to the largest magnitude; infinite for other shapes or other NaN."""
    if expected.shape != found.shape:
        return float("inf")
    if not expected.size:
        return 0.0
    one, other = expected.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(one)
    if not np.array_equal(finite, np.isfinite(other)) or not np.array_equal(
        one[~finite], other[~finite], equal_nan=True
    ):
        return float("inf")
    scale = float(np.abs(one[finite]).max(initial=0.0))
    difference = float(np.abs(one[finite] - other[finite]).max(initial=0.0))
    return difference / scale if scale else difference
