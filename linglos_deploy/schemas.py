"""JSON Schemas of every JSON file that this package writes, as published in ``docs/schemas``.

``python -m linglos_deploy.schemas docs/schemas`` writes them anew; a test compares.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from linglos_deploy.bundle import Manifest
from linglos_deploy.codec import schema
from linglos_deploy.engines.record import EngineRecord
from linglos_deploy.files import atomic_file
from linglos_deploy.quantization.plan import QuantPlan
from linglos_deploy.reports.comparison import ComparisonReport
from linglos_deploy.reports.criteria import CriteriaProposal
from linglos_deploy.reports.doctor import DoctorReport
from linglos_deploy.reports.evaluation import EvaluationReport
from linglos_deploy.reports.export import ExportReport
from linglos_deploy.reports.parity import LayerReport, Location, ParityOutcome, ParityReport
from linglos_deploy.reports.profile import ProfileReport

PUBLISHED = {
    "bundle": Manifest,
    "comparison": ComparisonReport,
    "criteria": CriteriaProposal,
    "doctor": DoctorReport,
    "engine": EngineRecord,
    "evaluation": EvaluationReport,
    "export": ExportReport,
    "layers": LayerReport,
    "location": Location,
    "parity": ParityReport,
    "parity-outcome": ParityOutcome,
    "plan": QuantPlan,
    "profile": ProfileReport,
}
"""File name (without ``.schema.json``) of each published type."""


def schema_texts() -> dict[str, str]:
    """Return the contents of every schema file, by file name."""
    return {
        f"{name}.schema.json": json.dumps(schema(kind), indent=2, ensure_ascii=False) + "\n"
        for name, kind in PUBLISHED.items()
    }


def write_schemas(folder: Path) -> None:
    """Write every schema file into ``folder``."""
    for name, text in schema_texts().items():
        with atomic_file(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))
