"""Top-1 on labelled images, before and now."""

from __future__ import annotations

from collections.abc import Iterator

from linglos_deploy.comparing.quality import ACCURACY
from linglos_deploy.comparing.tolerances import Tolerances
from linglos_deploy.parity.chance import share_allowed
from linglos_deploy.reports.comparison import Change
from linglos_deploy.reports.export import AccuracyVerdict


def compare_accuracy(
    old: AccuracyVerdict | None, new: AccuracyVerdict | None, tolerances: Tolerances
) -> Iterator[Change]:
    """Hold the accuracy of each model against what it was; what chance explains is accepted, if nobody said."""
    if old is None:
        return
    if new is None:
        yield Change("labelled images", "accuracy", "measured", "not measured", "still there", passed=False)
        return
    now = {row.model: row for row in new.rows}
    for row in old.rows:
        found = now.get(row.model)
        if found is None:
            continue  # that a candidate is gone is said of its outputs
        shares = (row.correct / row.count, row.count), (found.correct / found.count, found.count)
        asked = tolerances.max_drop.get(ACCURACY)
        lost = 100 * share_allowed(*shares) if asked is None else asked
        why = "what chance explains" if asked is None else "accepted"
        yield Change(
            f"{row.model} on {found.count} labelled images",
            "top-1",
            f"{row.top1:.2f} %",
            f"{found.top1:.2f} %",
            f"at least {max(row.top1 - lost, 0.0):.2f} %: {lost:.2f} points less are {why}",
            passed=found.top1 >= row.top1 - lost,
            old_value=row.top1,
            new_value=found.top1,
        )
