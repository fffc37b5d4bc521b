"""Carries a quantization plan out: a graph and a plan become a graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from linglos_deploy.artifacts import OnnxArtifact, Step, load_onnx, open_onnx, tool_versions
from linglos_deploy.codec import to_builtins, to_json
from linglos_deploy.errors import QuantizationError
from linglos_deploy.files import atomic_file, sha256_bytes
from linglos_deploy.graph.passes.running import read_ir, run_passes
from linglos_deploy.quantization.placement import DEFAULT, Placement, find_placement
from linglos_deploy.quantization.plan import QuantPlan
from linglos_deploy.quantization.qdq import InsertQdq


def apply_plan(model: OnnxArtifact, plan: QuantPlan, *, out: Path, placement: Placement | None = None) -> OnnxArtifact:
    """Write the graph with the plan carried out; the same graph, plan and placement always give the same bytes.

    Args:
        model: The graph that the plan was made for.
        plan: What to do. A plan that was edited is obeyed, or refused by the name of what contradicts it.
        out: Where the new graph goes.
        placement: Where the pairs go, and in which integers; as every runtime reads them if ``None``. Layers that its
            runtime cannot have in INT8 become warnings.

    Raises:
        QuantizationError: The plan belongs to another graph or contradicts itself, or the graph's opset has no
            operators for it.
    """
    if plan.graph_digest != model.digest:
        raise QuantizationError(
            f"The quantization plan belongs to another graph than '{model.path.name}'.",
            found=f"a plan for the graph with SHA-256 {plan.graph_digest[:16]}…",
            expected=f"one for the graph with SHA-256 {model.digest[:16]}…",
            next_step="run 'linglos-deploy quantize' on this graph",
        )
    placement = placement or find_placement(DEFAULT)
    proto, insert = load_onnx(model.path), InsertQdq(plan, placement)
    if plan.quantized_nodes:
        proto = run_passes(proto, insert)
    else:
        insert.requires(read_ir(proto))
    step = Step(
        stage="quantize",
        inputs={"graph": model.digest, "plan": sha256_bytes(to_json(plan).encode())},
        config={**to_builtins(plan.scheme), "placement": placement.name},
        tools=tool_versions("linglos-deploy", "onnx", "onnx-ir", "numpy"),
    )
    with atomic_file(out) as partial:
        partial.write_bytes(proto.SerializeToString(deterministic=True))
    return replace(open_onnx(out, lineage=(*model.lineage, step)), warnings=insert.left)
