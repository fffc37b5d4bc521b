"""Limits for one model: what it reaches under several conditions becomes a file of criteria."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from linglos_deploy.choices import Precision
from linglos_deploy.files import atomic_file, check_new
from linglos_deploy.images.options import NOTHING_SAID, PreprocessOptions
from linglos_deploy.models.loading import ModelSource
from linglos_deploy.parity.proposals import holds, propose, to_toml
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.reports.criteria import Condition, CriteriaProposal, ProposedLimit
from linglos_deploy.reports.parity import ParityOutcome
from linglos_deploy.verbs.check_parity import ParityRequest, check
from linglos_deploy.verbs.verdicts import BATCH

CONDITIONS = (
    Condition("as 'parity' runs", 0, BATCH),
    Condition("the same again", 0, BATCH),
    Condition("one thread", 1, BATCH),
    Condition("two threads", 2, BATCH),
    Condition("each image alone", 0, 1),
    Condition("three images at a time, so that each has another place", 0, 3),
)
"""What must not matter: repetition, threads, and how images are put into batches."""


@dataclass(frozen=True, slots=True)
class CriteriaRequest:
    """What limits are wanted for; the fields are those of a check.

    Attributes:
        candidate: A bundle, or an ONNX graph.
        out: Where the file goes.
        reference: The graph that ``candidate`` should agree with.
        source: The PyTorch model instead of the golden tensors.
        data: Images, best those that later checks use.
        precision: Only the bundle's graph of this precision.
        images: Largest number of them.
        preprocess: How images become the input of graphs that do not say so themselves.
        replace: Whether a file that lies there is replaced.
    """

    candidate: Path
    out: Path
    reference: Path | None = None
    source: ModelSource | None = None
    data: Path | None = None
    precision: Precision | None = None
    images: int | None = None
    preprocess: PreprocessOptions = NOTHING_SAID
    replace: bool = False


def calibrate_criteria(request: CriteriaRequest, *, progress: Progress = SILENT) -> CriteriaProposal:
    """Check a model under several conditions, and write limits that it keeps and a worse one does not.

    Raises:
        OutputError: A file lies there that is not to be replaced.
        UsageError: The request does not fit what it is about.
        LinglosError: What a check raises.
    """
    check_new(request.out, replace=request.replace)
    asked = ParityRequest(
        request.candidate,
        reference=request.reference,
        source=request.source,
        data=request.data,
        precision=request.precision,
        images=request.images,
        preprocess=request.preprocess,
        layers=False,
    )
    outcomes = [
        check(replace(asked, threads=condition.threads, batch=condition.batch), progress=progress)
        for condition in CONDITIONS
    ]
    limits = tuple(propose([outcome.reports for outcome in outcomes]))
    with atomic_file(request.out) as partial:
        partial.write_text(to_toml(limits, subject=str(request.candidate), conditions=CONDITIONS), encoding="utf-8")
    warnings = (*_broken(outcomes), *_laxer(limits))
    return CriteriaProposal(str(request.out), str(request.candidate), CONDITIONS, limits, warnings)


def _broken(outcomes: list[ParityOutcome]) -> tuple[str, ...]:
    """Name what no limit accepts, so that nobody takes the file for a cure."""
    found: list[str] = []
    for outcome in outcomes:
        for report in outcome.reports:
            failed = [finding.name for finding in report.findings if finding.passed is False]
            if report.proof is not None and not report.proof.passed:
                failed.append(f"the structure is not that of {report.proof.parent}")
            found += [f"{report.candidate} fails whatever the limits are: {name}." for name in failed]
    return tuple(dict.fromkeys(found))


def _laxer(limits: tuple[ProposedLimit, ...]) -> tuple[str, ...]:
    """Name the limits that accept more than the defaults do."""
    return tuple(
        f"{limit.candidate}: {limit.output} on {limit.images} images: {limit.metric} {limit.worst:.6g} does not hold"
        f" the default {limit.default:.6g}, so {limit.limit:.6g} is proposed. Look at why before you accept it."
        for limit in limits
        if limit.default is not None and not holds(limit.metric, limit.worst, limit.default)
    )
