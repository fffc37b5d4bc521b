"""Limits from what a model reached under several conditions: its worst value, less what chance explains.

No limit is laxer than the default, unless the model does not hold the default.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence

from linglos_deploy.choices import Precision
from linglos_deploy.parity.chance import mean_allowed, share_allowed
from linglos_deploy.parity.reached import ENOUGH_DB, SLACK_DB
from linglos_deploy.reports.criteria import Condition, ProposedLimit
from linglos_deploy.reports.parity import Metric, OutputParity, ParityReport

RUNS = 2.0
"""How often the difference between the conditions is allowed for: they are a few of many."""

EXTREME_DB = 6.0
"""How much noisier the worst of other images may be than the worst of these, beyond what their means may differ."""

_EXTREMES = frozenset({Metric.WORST_COSINE, Metric.MAX_ABS, Metric.MAX_RELATIVE})
_DECIBELS = frozenset({Metric.SQNR_DB, Metric.VARIATION_DB, Metric.GROUP_DB})
_SHARES = frozenset({Metric.TOP1_AGREEMENT, Metric.TOP5_AGREEMENT})
_COSINES = frozenset({Metric.COSINE, Metric.WORST_COSINE})

SETS = ("data", "golden")
"""Sets of images that limits are for; made-up ones have limits of their own, where there are real ones."""


def propose(runs: Sequence[Sequence[ParityReport]]) -> Iterator[ProposedLimit]:
    """Propose a limit for each criterion of each output, and for the divergence of the classes.

    Args:
        runs: The verdicts of each condition, in one order.
    """
    for number, report in enumerate(runs[0]):
        there = [output.images for output in report.outputs]
        wanted = [name for name in SETS if name in there] or there[:1]
        for index, output in enumerate(report.outputs):
            if output.images in wanted:
                yield from _of_output(report, [verdicts[number].outputs[index] for verdicts in runs])


def holds(metric: Metric, found: float, limit: float) -> bool:
    """Return whether a value is on the good side of a limit, or at it."""
    return found <= limit if metric.at_most else found >= limit


def to_toml(limits: Sequence[ProposedLimit], *, subject: str, conditions: Sequence[Condition]) -> str:
    """Write limits as a file of criteria, each with its reason."""
    lines = [
        f"# Limits for {_line(subject)}, from {len(conditions)} checks:",
        *(f"#   {_line(condition.name)}" for condition in conditions),
        "# Change what you know better; 'linglos-deploy parity … --criteria' reads this file.",
    ]
    tables: dict[tuple[str, ...], dict[Metric, ProposedLimit]] = {}
    for limit in limits:
        table = tables.setdefault((limit.precision, "images", limit.images, "outputs", limit.output), {})
        other = table.get(limit.metric)
        if other is None or holds(limit.metric, other.limit, limit.limit):
            table[limit.metric] = limit  # of two graphs of one precision, what both hold
    for names, table in tables.items():
        lines += ["", f"[{'.'.join(map(_quoted, names))}]"]
        lines += [f"{metric} = {limit.limit!r}  # {_line(limit.reason)}" for metric, limit in table.items()]
    return "\n".join(lines) + "\n"


def _of_output(report: ParityReport, runs: Sequence[OutputParity]) -> Iterator[ProposedLimit]:
    first, precision = runs[0], Precision(report.precision)
    defaults = {result.metric: result.limit for result in first.criteria if result.metric in Metric}
    defaults.pop(Metric.MISMATCHED_NONFINITE, None)
    means = [output.metrics.sample_db_mean for output in runs]
    between = max(means) - min(means)
    machine = SLACK_DB[Precision.INT8 if precision.is_int8 else precision]
    found = first.metrics
    others = mean_allowed(found.sample_db_std, found.samples, found.sample_db_std, found.samples)
    lost = max(machine, RUNS * between) + others
    why = f"{between:.2g} dB between runs, {machine:g} for another machine, {others:.1f} for other images"
    for metric in [*defaults, *([Metric.KL_DIVERGENCE] if Metric.KL_DIVERGENCE not in defaults else [])]:
        values = [value for output in runs if (value := _value(output, metric)) is not None]
        if not values:
            continue
        worst, best = (max(values), min(values)) if metric.at_most else (min(values), max(values))
        reason = why
        if metric in _SHARES:
            reason = f"what chance explains on {found.samples} images"
        elif metric in _EXTREMES:
            reason = f"{why}, {EXTREME_DB:g} for a worse image"
        limit = _limit(metric, worst, lost + EXTREME_DB * (metric in _EXTREMES), found.samples, precision)
        default = defaults.get(metric)
        if default is not None and holds(metric, worst, default) and not holds(metric, limit, default):
            limit, reason = default, "the default"
        yield ProposedLimit(
            report.candidate,
            report.precision,
            first.images,
            first.output,
            metric,
            best,
            worst,
            limit,
            default,
            f"{worst:.6g} reached; {reason}",
        )


def _value(output: OutputParity, metric: Metric) -> float | None:
    if metric is Metric.GROUP_DB:
        return min((group.sqnr_db for group in output.metrics.groups), default=None)
    value: float | None = getattr(output.metrics, metric)
    return value


def _limit(metric: Metric, worst: float, lost: float, samples: int, precision: Precision) -> float:
    """Return the limit, rounded to the lax side."""
    if metric in _DECIBELS:
        least = worst - lost
        if metric is Metric.SQNR_DB and precision is Precision.FP32:
            least = min(least, ENOUGH_DB)
        return math.floor(2 * least) / 2
    if metric in _SHARES:
        return max(math.floor(1000 * (worst - share_allowed((worst, samples), (worst, samples)))) / 1000, 0.0)
    if metric in _COSINES:
        gap = max(1 - worst, 10 ** (-ENOUGH_DB / 10)) * 10 ** (lost / 10)
        return max(_plain(1 - _up(gap)), -1.0)
    power = 10 if metric is Metric.KL_DIVERGENCE else 20
    return _up(max(worst, 1e-9) * 10 ** (lost / power))


def _up(value: float) -> float:
    """Round up to two digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return _plain(math.ceil(value / unit) * unit)


def _plain(value: float) -> float:
    """Return a rounded number without what its arithmetic left behind; a default is written to the last bit instead."""
    return float(f"{value:.13g}")


def _quoted(name: str) -> str:
    """Return a name as a key: bare, or quoted as JSON does, but for surrogates and the last control character."""
    if re.fullmatch(r"[A-Za-z0-9_-]+", name):
        return name
    return json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f")


def _line(text: str) -> str:
    """Return text as a comment may hold it."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
