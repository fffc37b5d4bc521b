"""How a quantization plan looks: what becomes INT8, and why the rest does not."""

from __future__ import annotations

from collections import Counter

from linglos_deploy.quantization.plan import NodeDecision, QuantPlan
from linglos_deploy.reports.document import Cell, Column, Section, Table, Tone, sections_of

REASONS = 5
"""Reasons that are counted before the layers are listed."""


@sections_of.register
def plan_sections(plan: QuantPlan) -> tuple[Section, ...]:
    """The share of layers that become INT8, the reasons of the others, and a row for every layer, those first."""
    what = "images" if plan.preprocess_digest else "samples"
    source = f"synthetic {what}" if plan.synthetic else what
    kept = [node for node in plan.nodes if not node.quantize]
    reasons = Counter(node.reason for node in kept)
    return (
        Section(
            title="Quantization plan",
            summary=f"{len(plan.quantized_nodes)} of {len(plan.nodes)} layers become INT8; "
            f"ranges from {plan.image_count} {source}.",
            warnings=_warnings(plan, source),
            facts=(
                ("method", str(plan.scheme.method)),
                ("graph", f"SHA-256 {plan.graph_digest}"),
                ("data", plan.data_digest),
            ),
            tables=(_layers(plan, [*kept, *plan.quantized_nodes]),),
            notes=tuple(f"{count} in floating point: {reason}" for reason, count in reasons.most_common(REASONS)),
        ),
    )


def _warnings(plan: QuantPlan, source: str) -> tuple[str, ...]:
    warnings = [f"The ranges come from {source}: useless for accuracy."] if plan.synthetic else []
    if hopeless := sorted(plan.hopeless_tensors, key=lambda decision: decision.expected_db or 0.0):
        named = ", ".join(f"{decision.tensor} ({decision.expected_db:.0f} dB)" for decision in hopeless[:3])
        warnings.append(
            f"Of {len(hopeless)} activations next to nothing is expected to be left: {named}. "
            "Keep their readers in floating point with --nodes-to-exclude."
        )
    return tuple(warnings)


def _layers(plan: QuantPlan, nodes: list[NodeDecision]) -> Table:
    scales = {decision.tensor: decision.scale for decision in plan.tensors}
    columns = (
        Column("layer"),
        Column("type", minor=True),
        Column("INT8"),
        Column("reads", minor=True),
        Column("scale", numeric=True, minor=True),
        Column("why", prose=True),
    )
    rows = []
    for node in nodes:
        scale = scales.get(node.data)
        rows.append(
            (
                Cell(node.node),
                Cell(node.op_type),
                Cell("yes", Tone.GOOD) if node.quantize else Cell("no", Tone.MUTED),
                Cell(node.data),
                Cell("" if scale is None or not node.quantize else f"{scale:.4g}"),
                Cell(node.reason),
            )
        )
    return Table("Layers, those in floating point first", columns, tuple(rows), first=10)
