"""How close an old and a new candidate came to their references, output by output."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from linglos_deploy.choices import Precision
from linglos_deploy.comparing.tolerances import Tolerances
from linglos_deploy.errors import UsageError
from linglos_deploy.parity.chance import mean_allowed, share_allowed
from linglos_deploy.parity.reached import ENOUGH_DB, SLACK_DB
from linglos_deploy.reports.comparison import Change
from linglos_deploy.reports.numbers import file_size, significant, similarity
from linglos_deploy.reports.parity import Metric, OutputParity, ParityReport

ACCURACY = "accuracy"
"""Name of the tolerance of top-1 on labelled images, in percentage points."""

INT8_LAYERS = "int8_layers"
"""Name of the tolerance of how many layers may fall back from INT8."""

MEASURES = (*(str(metric) for metric in Metric if metric is not Metric.MISMATCHED_NONFINITE), ACCURACY, INT8_LAYERS)
"""What ``max_drop`` knows."""

_JUDGED = (Metric.SQNR_DB, Metric.COSINE, Metric.TOP1_AGREEMENT, Metric.TOP5_AGREEMENT)
"""What is judged without being asked for; a worst image or a largest error is a matter of chance."""

_SHOWN = {
    Metric.COSINE: similarity,
    Metric.WORST_COSINE: similarity,
    Metric.TOP1_AGREEMENT: lambda value: f"{value:.2%}",
    Metric.TOP5_AGREEMENT: lambda value: f"{value:.2%}",
    **{metric: lambda value: f"{value:.1f} dB" for metric in (Metric.SQNR_DB, Metric.VARIATION_DB, Metric.GROUP_DB)},
}


@dataclass(frozen=True, slots=True)
class _Allowed:
    """The worst value that is good enough, and why."""

    limit: float
    why: str


def compare_quality(
    old: Sequence[ParityReport], new: Sequence[ParityReport], tolerances: Tolerances
) -> Iterator[Change]:
    """Hold the outputs of each candidate against what they were, set of images by set of images.

    What is lost is no improvement: a candidate, an output or a set of images that is no longer there is a regression.

    Raises:
        UsageError: Nothing is in both.
    """
    partners = _partners(old, new)
    if not any(_common(before, after) for before, after in partners.values() if after is not None):
        raise UsageError(
            "The two have no output in common, so nothing can be compared.",
            found=f"{_outputs(old)}; {_outputs(new)}",
            expected="the same outputs on images of the same kind",
            next_step="compare with an older state of the same model",
        )
    for name, (before, after) in partners.items():
        if after is None:
            yield Change(name, "checked", "yes", "no", "still there", passed=False)
            continue
        yield from _verdicts(name, before, after)
        there = {(output.output, output.images): output for output in after.outputs}
        for output in before.outputs:
            subject = f"{name}: {output.output}" + (f" on {output.images} images" if output.images else "")
            found = there.get((output.output, output.images))
            if found is None:
                yield Change(subject, "checked", "yes", "no", "still there", passed=False)
            else:
                yield from _measures(subject, output, found, Precision(before.precision), tolerances)
    known = {after.candidate for _, after in partners.values() if after is not None}
    for report in new:
        if report.candidate not in known:
            yield Change(report.candidate, "checked", "no", "yes")


def check_drops(drops: Mapping[str, float]) -> None:
    """Check that every tolerance is of something that is measured.

    Raises:
        UsageError: One is not.
    """
    for name in drops:
        if name not in MEASURES:
            raise UsageError(
                f"Nothing called '{name}' is compared.",
                found=name,
                expected=", ".join(MEASURES),
                next_step="--max-drop sqnr_db=1.5",
            )


def _partners(
    old: Sequence[ParityReport], new: Sequence[ParityReport]
) -> dict[str, tuple[ParityReport, ParityReport | None]]:
    """Find the new report of each old one: of the same name, or the only one of the same precision on both sides."""
    by_name = {report.candidate: report for report in new}

    def partner(report: ParityReport) -> ParityReport | None:
        if report.candidate in by_name:
            return by_name[report.candidate]
        mine, theirs = ([other for other in side if other.precision == report.precision] for side in (old, new))
        return theirs[0] if len(mine) == len(theirs) == 1 else None

    return {report.candidate: (report, partner(report)) for report in old}


def _common(old: ParityReport, new: ParityReport) -> set[tuple[str, str]]:
    sides = [{(output.output, output.images) for output in report.outputs} for report in (old, new)]
    return sides[0] & sides[1]


def _outputs(reports: Sequence[ParityReport]) -> str:
    found = [f"{report.candidate}: {output.output}" for report in reports for output in report.outputs]
    return ", ".join(dict.fromkeys(found)) or "nothing"


def _verdicts(name: str, old: ParityReport, new: ParityReport) -> Iterator[Change]:
    if old.precision != new.precision:
        yield Change(name, "precision", old.precision, new.precision)
    yield Change(
        name,
        "verdict",
        _word(old),
        _word(new),
        "passed" if old.passed else "as before",
        passed=new.passed or not (old.passed or (old.undecided and not new.undecided)),
    )
    held = {finding.name: finding for finding in old.findings}
    for finding in new.findings:
        before = held.get(finding.name)
        if finding.passed is False and (before is None or before.passed is not False):
            was = before.found if before is not None else "not checked"
            yield Change(name, finding.name, was, finding.found, finding.expected, passed=False)


def _word(report: ParityReport) -> str:
    return "passed" if report.passed else "cannot tell" if report.undecided else "failed"


def _measures(
    subject: str, old: OutputParity, new: OutputParity, precision: Precision, tolerances: Tolerances
) -> Iterator[Change]:
    for metric in Metric:
        asked = tolerances.max_drop.get(str(metric))
        if metric is Metric.MISMATCHED_NONFINITE or (asked is None and metric not in _JUDGED):
            continue
        values = [_value(output, metric) for output in (old, new)]
        before, after = values
        if before is None or after is None:
            continue
        if asked == math.inf:
            continue
        allowed = _asked(metric, before, asked) if asked is not None else _expected(metric, old, new, precision)
        show: Callable[[float], str] = _SHOWN.get(metric, significant)
        good = after <= allowed.limit if metric.at_most else after >= allowed.limit
        sign = "at most" if metric.at_most else "at least"
        yield Change(
            subject,
            _name(metric),
            show(before),
            show(after),
            f"{sign} {show(allowed.limit)}: {allowed.why}",
            passed=good,
            old_value=before,
            new_value=after,
        )


def _value(output: OutputParity, metric: Metric) -> float | None:
    if metric is Metric.SQNR_DB:
        return output.metrics.sample_db_mean
    if metric is Metric.GROUP_DB:
        return min((group.sqnr_db for group in output.metrics.groups), default=None)
    value: float | None = getattr(output.metrics, metric)
    return value


def _name(metric: Metric) -> str:
    return "SQNR, mean over images" if metric is Metric.SQNR_DB else str(metric)


def _asked(metric: Metric, before: float, most: float) -> _Allowed:
    limit = before + most if metric.at_most else before - most
    return _Allowed(limit, f"{significant(most)} {'more' if metric.at_most else 'less'} are accepted")


def _expected(metric: Metric, old: OutputParity, new: OutputParity, precision: Precision) -> _Allowed:
    """Return what chance and another machine explain."""
    was, now = old.metrics, new.metrics
    if metric in (Metric.TOP1_AGREEMENT, Metric.TOP5_AGREEMENT):
        before, after = getattr(was, metric), getattr(now, metric)
        least = before - share_allowed((before, was.samples), (after, now.samples))
        return _Allowed(max(least, 0.0), f"what chance explains on {was.samples} and {now.samples} images")
    lost, why = _decibels_allowed(old, new, precision)
    if metric is Metric.SQNR_DB:
        enough = ENOUGH_DB if precision is Precision.FP32 else math.inf
        return _Allowed(min(was.sample_db_mean - lost, enough), why)
    gap = max((1 - was.cosine) * 10 ** (lost / 10), 10 ** (-ENOUGH_DB / 10))
    return _Allowed(1 - gap, why)


def _decibels_allowed(old: OutputParity, new: OutputParity, precision: Precision) -> tuple[float, str]:
    slack = SLACK_DB[Precision.INT8 if precision.is_int8 else precision]
    if old.inputs and old.inputs == new.inputs:
        return slack, f"{slack:.1f} dB on the same images"
    spread = mean_allowed(
        old.metrics.sample_db_std, old.metrics.samples, new.metrics.sample_db_std, new.metrics.samples
    )
    return slack + spread, f"{slack:.1f} dB, and {spread:.1f} that other images explain"


def size_change(path: str, old: int, new: int, tolerances: Tolerances, *, default: float) -> Change:
    """Return what became of a file's size.

    Args:
        path: The file, as the reader knows it.
        old: Its size in bytes.
        new: Its size now.
        tolerances: How much it may grow.
        default: The share by which it may grow if nobody said.
    """
    share = default if tolerances.max_growth is None else tolerances.max_growth
    most = math.inf if math.isinf(share) else old * (1 + share)
    judged = not math.isinf(most)
    return Change(
        path,
        "size",
        file_size(old),
        file_size(new),
        f"at most {file_size(most)}: {share:.1%} more is accepted" if judged else "",
        passed=new <= most if judged else None,
        old_value=old,
        new_value=new,
    )
