"""How proposed limits look: what was reached, what is asked from now on, and why."""

from __future__ import annotations

from linglos_deploy.reports.criteria import CriteriaProposal
from linglos_deploy.reports.document import Cell, Column, Section, Table, sections_of
from linglos_deploy.reports.sections.parity import METRIC_NAMES, metric_value


@sections_of.register
def criteria_sections(proposal: CriteriaProposal) -> tuple[Section, ...]:
    """One section with a row a limit."""
    columns = (
        Column("graph"),
        Column("output"),
        Column("measure"),
        Column("reached", numeric=True),
        Column("limit", numeric=True),
        Column("default", numeric=True),
        Column("why", prose=True, minor=True),
    )
    rows = tuple(
        (
            Cell(limit.candidate),
            Cell(f"{limit.output}, {limit.images}"),
            Cell(METRIC_NAMES[limit.metric]),
            Cell(metric_value(limit.metric, limit.worst)),
            Cell(f"{'≤' if limit.metric.at_most else '≥'} {metric_value(limit.metric, limit.limit)}"),
            Cell("–" if limit.default is None else metric_value(limit.metric, limit.default)),
            Cell(limit.reason.partition("; ")[2]),
        )
        for limit in proposal.limits
    )
    return (
        Section(
            title=f"Limits for {proposal.subject}",
            summary=f"{len(proposal.limits)} limits from {len(proposal.conditions)} checks, in {proposal.file}.",
            warnings=proposal.warnings,
            facts=(("conditions", "; ".join(condition.name for condition in proposal.conditions)),),
            tables=(Table("What was reached, and what is asked from now on", columns, rows),),
            notes=(f"linglos-deploy parity {proposal.subject} … --criteria {proposal.file}",),
        ),
    )
