"""Does a quantization plan follow from what calibration saw? What a plan says is then as good as the table."""

from __future__ import annotations

from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.calibration.thresholds import threshold
from linglos_deploy.quantization.plan import QuantPlan, TensorDecision
from linglos_deploy.reports.parity import Finding

_SAME = 1e-6
"""Relative difference up to which two bounds are the same; a table keeps float64, a plan prints it."""


def check_decisions(plan: QuantPlan, table: CalibrationTable | None, graph_digest: str) -> tuple[Finding, ...]:
    """Check that plan and table belong to the float32 graph, and that each bound is the one the method finds.

    Args:
        plan: The quantization plan.
        table: The calibration table; ``None`` if it is not at hand.
        graph_digest: SHA-256 of the float32 graph.
    """
    findings = [
        Finding(
            "the plan was made for the float32 graph",
            plan.graph_digest == graph_digest,
            f"SHA-256 {plan.graph_digest[:16]}…",
            f"SHA-256 {graph_digest[:16]}…",
        )
    ]
    if table is None:
        return tuple(findings)
    wrong = [found for decision in plan.quantized_tensors if (found := _wrong_bound(decision, table, plan))]
    findings.append(
        Finding(
            "the plan's bounds follow from the calibration table",
            not wrong and table.graph_digest == graph_digest,
            wrong[0] if wrong else f"{len(plan.quantized_tensors)} bounds of a table for {table.graph_digest[:16]}…",
            f"what each method finds in a table for {graph_digest[:16]}…",
        )
    )
    return tuple(findings)


def _wrong_bound(decision: TensorDecision, table: CalibrationTable, plan: QuantPlan) -> str | None:
    statistics = table.tensors.get(decision.tensor)
    if statistics is None:
        return f"'{decision.tensor}' is not in the table"
    if decision.method is None or decision.bound is None:
        return None
    bound = threshold(statistics, decision.method, percentile=plan.scheme.percentile)
    if abs(bound - decision.bound) <= _SAME * abs(bound):
        return None
    return f"'{decision.tensor}' is clipped at ±{decision.bound:.6g} where {decision.method} finds ±{bound:.6g}"
