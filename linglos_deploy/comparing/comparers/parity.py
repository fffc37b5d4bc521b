"""Two answers of ``linglos-deploy parity --json``, or two of its reports."""

from __future__ import annotations

import json
from pathlib import Path

from linglos_deploy.codec import read_json
from linglos_deploy.comparing.quality import check_drops, compare_quality
from linglos_deploy.comparing.tolerances import Tolerances
from linglos_deploy.kinds import report_type
from linglos_deploy.reports.comparison import ComparisonReport
from linglos_deploy.reports.parity import ParityOutcome, ParityReport

OBEYS = ("max_drop",)


def compare_parity(old: Path, new: Path, tolerances: Tolerances) -> ComparisonReport:
    """Compare how close candidates came to their references, per output and set of images.

    Raises:
        UsageError: Nothing is in both.
        ArtifactError: A report is damaged.
    """
    check_drops(tolerances.max_drop)
    changes = tuple(compare_quality(_reports(old), _reports(new), tolerances))
    return ComparisonReport.of("parity", str(old), str(new), changes)


def _reports(path: Path) -> tuple[ParityReport, ...]:
    if report_type(json.loads(path.read_bytes())) is ParityReport:
        return (read_json(ParityReport, path),)
    return read_json(ParityOutcome, path).reports
