"""Which graph a path stands for: the graph itself, or the one of a bundle that a verb is about."""

from __future__ import annotations

from pathlib import Path

from linglos_deploy.artifacts import load_onnx
from linglos_deploy.bundle import open_bundle
from linglos_deploy.errors import UsageError
from linglos_deploy.kinds import Kind, kind_of

QUANTIZED = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"}
)


def float_graph(path: Path, *, verb: str) -> Path:
    """Return the float32 graph that ``path`` is, or that the bundle there holds.

    Args:
        path: A graph or a bundle.
        verb: What it is wanted for.

    Raises:
        UsageError: It is something else, or a graph that is quantized already.
        ArtifactError: It is damaged.
    """
    graph = _graph(path, verb=verb, deployed=False)
    operators = {node.op_type for node in load_onnx(graph).graph.node} & QUANTIZED
    if operators:
        raise UsageError(
            f"'{graph}' is quantized already; {verb} takes the float32 graph.",
            found=", ".join(sorted(operators)),
            expected="a graph in floating point",
            next_step=f"linglos-deploy {verb} {_float_sibling(graph) or 'the graph that it was made from'}",
        )
    return graph


def deployed_graph(path: Path, *, verb: str) -> Path:
    """Return the graph that ``path`` is, or the one that the bundle there was made to ship.

    Raises:
        UsageError: It is something else.
        ArtifactError: It is damaged.
    """
    return _graph(path, verb=verb, deployed=True)


def _graph(path: Path, *, verb: str, deployed: bool) -> Path:
    kind = kind_of(path)
    if kind is Kind.GRAPH:
        return path
    if kind is Kind.BUNDLE:
        return path / open_bundle(path).manifest.graphs[-1 if deployed else 0].file
    raise UsageError(
        f"{verb} takes a graph.",
        found=f"'{path}', a {kind}",
        expected="a .onnx file, or a bundle",
        next_step=f"linglos-deploy inspect {path} shows what it is",
    )


def _float_sibling(graph: Path) -> Path | None:
    """Guess which file a quantized graph was made from: ``model.onnx`` lies beside ``model.int8.onnx``."""
    sibling = graph.with_name(f"{graph.name.split('.')[0]}.onnx")
    return sibling if sibling.is_file() and sibling != graph else None
