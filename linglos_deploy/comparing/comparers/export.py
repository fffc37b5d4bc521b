"""Two reports of ``linglos-deploy export``, as bundles keep them in ``reports/export.json``."""

from __future__ import annotations

from pathlib import Path

from linglos_deploy.codec import read_json
from linglos_deploy.comparing.accuracy import compare_accuracy
from linglos_deploy.comparing.quality import check_drops, compare_quality, size_change
from linglos_deploy.comparing.tolerances import Tolerances
from linglos_deploy.reports.comparison import ComparisonReport
from linglos_deploy.reports.export import ExportReport

OBEYS = ("max_drop", "max_growth")

GROWTH = 0.05
"""Share by which a graph may grow."""


def compare_export(old: Path, new: Path, tolerances: Tolerances) -> ComparisonReport:
    """Compare quality, accuracy and the sizes of the graphs.

    Raises:
        UsageError: Nothing is in both.
        ArtifactError: A report is damaged.
    """
    check_drops(tolerances.max_drop)
    before, after = (read_json(ExportReport, path) for path in (old, new))
    changes = (
        *compare_accuracy(before.accuracy, after.accuracy, tolerances),
        *compare_quality(before.parity, after.parity, tolerances),
        *(
            size_change(name, size, after.graphs[name], tolerances, default=GROWTH)
            for name, size in before.graphs.items()
            if name in after.graphs
        ),
    )
    return ComparisonReport.of("export", str(old), str(new), changes)
