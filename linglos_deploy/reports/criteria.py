"""Limits that follow from what one model reaches, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from linglos_deploy.reports.parity import Metric


@dataclass(frozen=True, slots=True)
class Condition:
    """How a check was run.

    Attributes:
        name: What is particular about it.
        threads: Threads of ONNX Runtime, 0 for its own choice.
        batch: Images of one run.
    """

    name: str
    threads: int
    batch: int


@dataclass(frozen=True, slots=True)
class ProposedLimit:
    """One limit.

    Attributes:
        candidate: The graph that it follows from.
        precision: Whose graphs it is for.
        images: The set of images.
        output: The output.
        metric: What it limits.
        best: The best value of any condition.
        worst: The worst value of any condition.
        limit: What is proposed.
        default: The limit that holds without it; ``None`` if there is none.
        reason: How it follows.
    """

    candidate: str
    precision: str
    images: str
    output: str
    metric: Metric
    best: float
    worst: float
    limit: float
    default: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class CriteriaProposal:
    """The answer of ``linglos-deploy calibrate-criteria``.

    Attributes:
        file: Where the limits were written.
        subject: What was checked.
        conditions: How, each time.
        limits: What is proposed.
        warnings: What fails whatever the limits are, and limits that are laxer than the defaults.
        schema: Name and version of this format.
    """

    file: str
    subject: str
    conditions: tuple[Condition, ...]
    limits: tuple[ProposedLimit, ...]
    warnings: tuple[str, ...] = ()
    schema: Literal["linglos.criteria/1"] = "linglos.criteria/1"
