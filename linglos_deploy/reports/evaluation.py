"""How good a bundle's graphs are on pictures of which the truth is known: the values behind ``linglos-deploy eval``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its 95 % interval from resampled examples; a change of one may be negative."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class GraphScore:
    """One graph.

    Attributes:
        graph: Its file name.
        precision: Its precision.
        score: The metric, 1 at best.
        change: Against the float32 graph on the same pictures; ``None`` for that graph itself.
        agreement: Share of pictures that both have right or both have wrong; ``None`` where pictures are no such thing.
        mcnemar: Probability of as lopsided a change by chance; ``None`` likewise.
    """

    graph: str
    precision: str
    score: Share
    change: Share | None = None
    agreement: float | None = None
    mcnemar: float | None = None


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """The result of an evaluation.

    Attributes:
        bundle: The bundle's directory.
        task: What its model is for.
        metric: Name of the metric.
        count: Number of pictures.
        scores: Every graph, the float32 one first.
        warnings: What was taken for granted or left out.
        max_drop: Largest accepted loss against float32, in percentage points; ``None`` if nothing was asked.
        passed: Whether no graph loses more.
    """

    bundle: str
    task: str
    metric: str
    count: int
    scores: tuple[GraphScore, ...]
    warnings: tuple[str, ...]
    max_drop: float | None
    passed: bool
