"""Is INT8 worth it: one sentence for each runtime, on speed, size and accuracy, and no praise for what is slower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from linglos_deploy.profiling.plan import MeasurementPlan
from linglos_deploy.profiling.statistics import compare
from linglos_deploy.reports.export import AccuracyVerdict, TargetVerdict
from linglos_deploy.reports.profile import Finding, ProfileReport, ProfileRow, Ratio

_PLAN = MeasurementPlan()


@dataclass(frozen=True, slots=True)
class Target:
    """An INT8 graph and what it is made for.

    Attributes:
        placement: Name of its placement.
        graph: Its file name.
        runtimes: The backends that run it.
    """

    placement: str
    graph: str
    runtimes: tuple[str, ...]


def judge_targets(
    targets: Sequence[Target],
    *,
    reference: str,
    sizes: Mapping[str, int],
    profile: ProfileReport | None,
    accuracy: AccuracyVerdict | None,
) -> tuple[TargetVerdict, ...]:
    """Say of each INT8 graph whether it is worth it, against the float32 graph on the same runtime.

    Args:
        targets: The graphs.
        reference: File name of the float32 graph.
        sizes: Bytes of each graph, by file name.
        profile: What was measured; ``None`` if nothing was.
        accuracy: Top-1 of each graph; ``None`` without labels.
    """
    return tuple(_judge(target, reference, sizes, profile, accuracy) for target in targets)


def _judge(
    target: Target,
    reference: str,
    sizes: Mapping[str, int],
    profile: ProfileReport | None,
    accuracy: AccuracyVerdict | None,
) -> TargetVerdict:
    ratio, times = None, None
    for row in profile.rows if profile is not None else ():
        if row.artifact == target.graph and row.backend in target.runtimes and row.latency is not None:
            base = _row(profile, reference, row)
            if base is not None and base.latency is not None:
                ratio, times = _ratio(row, base), (row.latency.p50, base.latency.p50)
                break
    size = sizes[target.graph] / sizes[reference]
    lost = _lost(target.graph, accuracy)
    return TargetVerdict(
        target=target.placement,
        graph=target.graph,
        ratio=ratio,
        size=size,
        lost_points=lost,
        sentence=_sentence(target, ratio, times, size, lost),
    )


def _row(profile: ProfileReport | None, artifact: str, like: ProfileRow) -> ProfileRow | None:
    """Return the row of another graph on the same backend, with the same batch and threads."""
    key = (like.backend, like.batch, like.threads)
    rows = profile.rows if profile is not None else ()
    return next((it for it in rows if it.artifact == artifact and (it.backend, it.batch, it.threads) == key), None)


def _ratio(row: ProfileRow, base: ProfileRow) -> Ratio | None:
    """Compare two rows of one report: their processes took turns, block by block and round by round."""
    pairs = list(zip(row.samples_ms, base.samples_ms, strict=False))
    if not pairs or any(len(mine) != len(theirs) for mine, theirs in pairs):
        return None
    mine, theirs = zip(*pairs, strict=True)
    return compare(mine, theirs, label=base.label, confidence=_PLAN.confidence, min_effect=_PLAN.min_effect)


def _lost(graph: str, accuracy: AccuracyVerdict | None) -> float | None:
    if accuracy is None:
        return None
    found = next((row for row in accuracy.rows if row.model == graph), None)
    return None if found is None else accuracy.rows[0].top1 - found.top1


def _sentence(
    target: Target, ratio: Ratio | None, times: tuple[float, float] | None, size: float, lost: float | None
) -> str:
    points = "accuracy not measured (no labelled images)" if lost is None else f"{lost:+.2f} points of top-1 lost"
    rest = f"{size:.2f} of the size, {points}"
    if ratio is None or times is None:
        return f"{target.placement}: speed not measured here; {rest}."
    span = "" if ratio.low is None or ratio.high is None else f" [{ratio.low:.2f}, {ratio.high:.2f}]"
    speed = f"{ratio.value:.2f}{span} of float32's time ({times[0]:.1f} ms for {times[1]:.1f} ms)"
    worth = {
        Finding.FASTER: "faster here",
        Finding.SLOWER: "SLOWER than float32 here: ship the float32 graph to this CPU, or INT8 for its size alone",
        Finding.NO_DIFFERENCE: "no faster than float32 here: worth it for its size alone",
        Finding.CANNOT_TELL: "too few runs to tell whether it is faster",
    }[ratio.finding]
    return f"{target.placement}: {worth}; {speed}, {rest}."
