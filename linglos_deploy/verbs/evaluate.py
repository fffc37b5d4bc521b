"""How good every graph of a bundle is: the artifact that ships, judged by its task's metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linglos_deploy.bundle import Bundle, open_bundle
from linglos_deploy.errors import UsageError
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.reports.evaluation import EvaluationReport, GraphScore, Share
from linglos_deploy.tasks.intervals import Interval, change, interval, mcnemar, resamples
from linglos_deploy.tasks.registry import load_task
from linglos_deploy.tasks.task import Examples, Metric
from linglos_deploy.verbs.predict import BATCH, decoding_of, facts_of, open_graph


@dataclass(frozen=True, slots=True)
class EvaluateRequest:
    """What is judged, and on what.

    Attributes:
        bundle: The bundle.
        data: Pictures of which the truth is known, in the form that the task takes.
        precision: Only the graph of this precision, beside the float32 one.
        max_drop: Largest accepted loss against float32, in percentage points.
        threads: Threads of ONNX Runtime, 0 for its own choice.
        seed: Of the resampling.
    """

    bundle: Path
    data: Path
    precision: str | None = None
    max_drop: float | None = None
    threads: int = 0
    seed: int = 0


def evaluate(request: EvaluateRequest, *, progress: Progress = SILENT) -> EvaluationReport:
    """Judge a bundle's graphs.

    Raises:
        UsageError: The task has no metric, or the bundle no graph of that precision.
        ArtifactError: The bundle is missing or damaged.
        DataError: The data cannot be used.
    """
    bundle = open_bundle(request.bundle)
    facts = facts_of(bundle)
    task = load_task(facts.decoding.task)
    if task.examples is None or task.metric is None:
        raise UsageError(
            f"There is no metric for the task '{task.name}'.",
            found=f"'{request.bundle}', a bundle for '{task.name}'",
            expected="a bundle of a task that is judged, such as classify",
            next_step="compare its graphs with 'linglos-deploy parity'",
        )
    if request.precision is not None:
        bundle.find_graph(request.precision)  # says which there are
    examples, metric = task.examples(request.data, facts, progress), task.metric(facts)
    for warning in examples.warnings:
        progress.warn(warning)
    drawn = resamples(len(examples.ids), seed=request.seed, draws=metric.draws)
    scores: list[GraphScore] = []
    reference: Sequence[Any] = ()
    for place, entry in enumerate(bundle.manifest.graphs):
        if place and request.precision not in (None, entry.precision):
            continue
        records = _records(bundle, place, examples, metric, request.threads, progress)
        score = GraphScore(entry.file, entry.precision, _share(interval(metric, records, drawn)))
        if place:
            score = _against(score, metric, reference, records, _share(change(metric, reference, records, drawn)))
        else:
            reference = records
        scores.append(score)
    drops = [-100 * score.change.value for score in scores if score.change is not None]
    return EvaluationReport(
        bundle=str(request.bundle),
        task=task.name,
        metric=metric.name,
        count=len(examples.ids),
        scores=tuple(scores),
        warnings=examples.warnings,
        max_drop=request.max_drop,
        passed=request.max_drop is None or all(drop <= request.max_drop + 1e-9 for drop in drops),
    )


def _records(
    bundle: Bundle, place: int, examples: Examples, metric: Metric, threads: int, progress: Progress
) -> list[Any]:
    entry, decoding = bundle.manifest.graphs[place], decoding_of(bundle)
    decode = load_task(decoding.task).decode
    records: list[Any] = []
    stage = progress.stage(f"Judging {entry.file}", len(examples.ids))
    with open_graph(bundle, entry, threads=threads) as runner, stage as advance:
        for group in examples.groups(BATCH, entry.signature):
            results = decode(runner.run(group.batch), decoding, group.frames)
            records += [metric.record(result, truth) for result, truth in zip(results, group.truths, strict=True)]
            advance(len(results))
    return records


def _against(
    score: GraphScore, metric: Metric, before: Sequence[Any], after: Sequence[Any], changed: Share
) -> GraphScore:
    agreement = chance = None
    if all(isinstance(record, bool) for record in (*before, *after)):
        agreement = sum(first == second for first, second in zip(before, after, strict=True)) / len(before)
        chance = mcnemar(before, after)
    return GraphScore(score.graph, score.precision, score.score, changed, agreement, chance)


def _share(found: Interval) -> Share:
    return Share(found.value, found.low, found.high)
