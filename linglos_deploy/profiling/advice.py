"""What to ship on this machine: one sentence that the figures support, or that they support none."""

from __future__ import annotations

from collections.abc import Sequence

from linglos_deploy.profiling.statistics import compare
from linglos_deploy.reports.export import AccuracyVerdict
from linglos_deploy.reports.parity import ParityReport
from linglos_deploy.reports.profile import Finding, Outcome, ProfileReport, ProfileRow, Ratio

FLOAT = "fp32"


def what_to_ship(profile: ProfileReport, parity: Sequence[ParityReport], accuracy: AccuracyVerdict | None) -> str:
    """Return what to ship, and why.

    Only graphs that passed their checks are advised, and one of fewer bits only where it is measurably faster than the
    fastest float32 graph.

    Args:
        profile: Latency of the graphs, measured in the same blocks.
        parity: The verdict on each graph.
        accuracy: Top-1 of each graph, if it was measured.
    """
    sound = {report.candidate for report in parity if report.passed}
    if accuracy is not None and not accuracy.passed:
        sound &= {row.model for row in accuracy.rows if row.precision == FLOAT}
    rows = [row for row in profile.rows if row.outcome is Outcome.MEASURED and row.artifact in sound]
    if not rows:
        return "No advice: nothing that was measured passed its checks."
    fastest = min(rows, key=_median)
    floats = [row for row in rows if row.precision == FLOAT]
    where = f"On this CPU, with {_threads(fastest)} a run, ship"
    if not floats:
        return f"{where} {_name(fastest)}: it is the fastest that passed its checks.{_lost(fastest, accuracy)}"
    plain = min(floats, key=_median)
    lower = [row for row in rows if row.precision != FLOAT]
    if not lower:
        return f"{where} {_name(plain)}: it is the fastest that passed its checks."
    smaller = min(lower, key=_median)
    ratio = _ratio(smaller, plain, profile)
    if ratio.finding is Finding.FASTER:
        return f"{where} {_name(smaller)}: {ratio.value:.2f} of the time of {_name(plain)}.{_lost(smaller, accuracy)}"
    if ratio.finding is Finding.SLOWER:
        return f"{where} {_name(plain)}: {smaller.precision} takes {ratio.value:.2f} of its time here."
    if ratio.finding is Finding.CANNOT_TELL:
        return f"No advice: {ratio.blocks} processes of each cannot tell whether {smaller.precision} is faster."
    return f"{where} {_name(plain)}: {smaller.precision} is not measurably faster here ({_interval(ratio)})."


def what_next(bundle: str, profile: ProfileReport) -> tuple[str, ...]:
    """Return the commands that answer what these figures leave open."""
    backends = dict.fromkeys(row.backend for row in profile.rows if row.digest)
    asked = {row.threads for row in profile.rows}
    cpus = max(1, int(profile.conditions.usable_cpus))
    other = f" --threads {cpus}" if cpus not in asked else " --batch 1,8"
    flags = "".join(f" --backend {name}" for name in backends)
    return (f"linglos-deploy profile {bundle}{flags}{other}", f"linglos-deploy parity {bundle}")


def _ratio(row: ProfileRow, other: ProfileRow, profile: ProfileReport) -> Ratio:
    return compare(
        row.samples_ms,
        other.samples_ms,
        label=other.label,
        confidence=profile.method.confidence,
        min_effect=profile.method.min_effect,
    )


def _lost(row: ProfileRow, accuracy: AccuracyVerdict | None) -> str:
    found = {entry.model: entry.top1 for entry in accuracy.rows} if accuracy is not None else {}
    if accuracy is None or row.artifact not in found:
        return " What it loses in accuracy was not measured: --eval."
    lost = accuracy.rows[0].top1 - found[row.artifact]
    return f" It loses {lost:.2f} points of top-1." if lost > 0 else " It loses nothing of top-1."


def _name(row: ProfileRow) -> str:
    return f"{row.artifact} with {_BACKENDS.get(row.backend, row.backend)}"


_BACKENDS = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "tensorrt": "TensorRT"}


def _interval(ratio: Ratio) -> str:
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] of its time"


def _threads(row: ProfileRow) -> str:
    return "1 thread" if row.threads == 1 else f"{row.threads} threads" if row.threads else "its choice of threads"


def _median(row: ProfileRow) -> float:
    return row.latency.p50 if row.latency is not None else float("inf")
