"""Reports of parity that differ in what a test is about, and files of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from linglos_deploy.codec import write_json
from linglos_deploy.reports.parity import (
    Finding,
    OutputMetrics,
    OutputParity,
    ParityOutcome,
    ParityReport,
)

METRICS = OutputMetrics(
    samples=100,
    values=1000,
    max_abs=0.5,
    max_relative=0.02,
    mean_abs=0.001,
    cosine=0.9999,
    worst_cosine=0.99,
    sqnr_db=37.0,
    top1_agreement=0.99,
    mismatched_nonfinite=0,
    nonfinite_reference=0,
    sample_db_mean=40.0,
    sample_db_std=2.0,
    top5_agreement=1.0,
    kl_divergence=0.001,
)


def output(name: str = "logits", *, images: str = "data", inputs: str = "same", **changed: Any) -> OutputParity:
    """Return an output without criteria."""
    return OutputParity(name, replace(METRICS, **changed), (), (), images, inputs=inputs)


def report(
    *outputs: OutputParity,
    candidate: str = "model.int8.onnx",
    precision: str = "int8",
    passed: bool = True,
    findings: tuple[Finding, ...] = (),
) -> ParityReport:
    """Return a verdict."""
    return ParityReport("PyTorch", candidate, precision, 100, outputs or (output(),), (), passed, findings=findings)


def write(folder: Path, name: str, *reports: ParityReport) -> Path:
    """Write an answer of ``parity --json``."""
    folder.mkdir(exist_ok=True, parents=True)
    outcome = ParityOutcome(reports or (report(),), (), passed=all(one.passed for one in reports))
    write_json(outcome, folder / f"{name}.json")
    return folder / f"{name}.json"
