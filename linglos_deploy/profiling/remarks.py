"""What a reader of the numbers should not have to find out alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from linglos_deploy.profiling.statistics import FEWEST_PROCESSES
from linglos_deploy.reports.profile import Conditions, Method, ProfileRow

SLOWER = 1.02
NOISY_VARIATION = 0.25
MANY_OUTLIERS = 0.05
WAITED = 0.75
"""CPU time over threads and time that passed below which a process must have waited."""

_DOT_PRODUCTS = {"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"}


def add_remarks(rows: Sequence[ProfileRow], conditions: Conditions) -> list[ProfileRow]:
    """Add what the comparison of rows, and the numbers of each, show to the notes of each."""
    return [
        replace(
            row,
            notes=(
                *row.notes,
                *_int8_remarks(row, rows, conditions),
                *_noise_remarks(row),
                *_warmth_remarks(row),
                *_cpu_remarks(row),
            ),
        )
        for row in rows
    ]


def precision_warnings(rows: Sequence[ProfileRow], method: Method) -> tuple[str, ...]:
    """Say where there are too few processes for an interval, or fewer than the precision needs, and what to change."""
    measured = [row for row in rows if row.latency is not None]
    few = [row.latency.processes for row in measured if row.latency is not None and row.latency.low is None]
    if few:
        how = "more --processes" if method.processes is not None else "a larger --budget"
        return (
            f"No intervals, and so no differences: they need {FEWEST_PROCESSES} processes of each candidate, "
            f"and there were {min(few)}. Give it {how}.",
        )
    target = method.precision_target
    if target is None:
        return ()
    wide = {row.label: width for row in measured if (width := reached_precision(row, measured)) > 1.1 * target}
    if not wide:
        return ()
    worst = max(wide, key=lambda label: wide[label])
    return (
        f"The precision of {target:.1%} was not reached for {', '.join(wide)} (worst: {wide[worst]:.1%}). "
        "Give it a larger --budget, or a quieter machine.",
    )


def reached_precision(row: ProfileRow, rows: Sequence[ProfileRow]) -> float:
    """Return the relative half width of the interval that counts: of the ratio, or of a lone candidate's median."""
    if row.ratio is not None and row.ratio.low is not None and row.ratio.high is not None:
        return (row.ratio.high - row.ratio.low) / (2 * row.ratio.value)
    alone = not any(other.ratio is not None for other in rows)
    latency = row.latency
    if alone and latency is not None and latency.low is not None and latency.high is not None:
        return (latency.high - latency.low) / (2 * latency.p50)
    return 0.0


def _int8_remarks(row: ProfileRow, rows: Sequence[ProfileRow], conditions: Conditions) -> tuple[str, ...]:
    if row.latency is None or not row.precision.startswith("int8"):
        return ()
    peers = [
        other
        for other in rows
        if other.latency is not None and other.precision == "fp32" and _where(other) == _where(row)
    ]
    if not peers or peers[0].latency is None:
        return ()
    ratio = row.latency.p50 / peers[0].latency.p50
    if ratio < SLOWER:
        return ()
    return (f"INT8 is {ratio:.2f} times slower than float32 here: {_why_slower(row, conditions)}",)


def _where(row: ProfileRow) -> tuple[object, ...]:
    return row.backend, row.batch, row.threads, row.image_size


def _why_slower(row: ProfileRow, conditions: Conditions) -> str:
    found = sorted(_DOT_PRODUCTS.intersection(conditions.instructions))
    cpu = f"this CPU has {', '.join(found)}" if found else "this CPU has no VNNI or AMX"
    mode = row.options.get("int8")
    return f"{cpu}; measured in the {mode} INT8 mode" if mode else cpu


def _noise_remarks(row: ProfileRow) -> tuple[str, ...]:
    latency = row.latency
    if latency is None:
        return ()
    remarks = []
    if latency.variation > NOISY_VARIATION:
        remarks.append(f"noisy: standard deviation is {latency.variation:.0%} of the mean")
    found = latency.outliers
    if found.count > MANY_OUTLIERS * latency.runs:
        kinds = {
            "much faster": found.low_severe,
            "faster": found.low_mild,
            "slower": found.high_mild,
            "much slower": found.high_severe,
        }
        counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
        remarks.append(f"{found.count} of {latency.runs} runs are outliers ({counted}); none was left out")
    return tuple(remarks)


def _warmth_remarks(row: ProfileRow) -> tuple[str, ...]:
    if row.latency is None or row.steady is not False:
        return ()
    return ("latency was still falling when timing began",)


def _cpu_remarks(row: ProfileRow) -> tuple[str, ...]:
    if row.cpu_use is None or row.threads == 0 or row.latency is None:
        return ()
    if row.cpu_use > row.threads + 0.5:
        return (f"used {row.cpu_use:.1f} CPUs although {row.threads} were asked for",)
    if row.threads == 1 and row.cpu_use < WAITED:
        return (f"had a CPU for {row.cpu_use:.0%} of the time: it waited for something, or others had the CPU",)
    return ()
