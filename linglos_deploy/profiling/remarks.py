"""What a reader of the numbers should not have to find out alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from linglos_deploy.reports.profile import Conditions, ProfileRow

SLOWER = 1.02
NOISY_VARIATION = 0.25
DRIFT = 1.25
_DOT_PRODUCTS = {"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"}


def add_remarks(rows: Sequence[ProfileRow], conditions: Conditions) -> list[ProfileRow]:
    """Add what the comparison of rows shows to the notes of each."""
    return [
        replace(row, notes=(*row.notes, *_int8_remarks(row, rows, conditions), *_noise_remarks(row))) for row in rows
    ]


def noise_warnings(rows: Sequence[ProfileRow]) -> tuple[str, ...]:
    """Return a warning for rows whose rounds differ so much that the machine must have changed in between."""
    drifting = [
        f"{row.label} (batch {row.batch})"
        for row in rows
        if row.latency is not None and max(row.latency.round_medians) > DRIFT * min(row.latency.round_medians)
    ]
    if not drifting:
        return ()
    return (
        f"The median changed by more than {DRIFT - 1:.0%} between rounds for {', '.join(drifting)}: "
        "something else used the machine, or its clock changed.",
    )


def _int8_remarks(row: ProfileRow, rows: Sequence[ProfileRow], conditions: Conditions) -> tuple[str, ...]:
    if row.latency is None or not row.precision.startswith("int8"):
        return ()
    peers = [
        other
        for other in rows
        if other.latency is not None
        and other.precision == "fp32"
        and (other.backend, other.batch, other.threads) == (row.backend, row.batch, row.threads)
    ]
    if not peers or peers[0].latency is None:
        return ()
    ratio = row.latency.p50 / peers[0].latency.p50
    if ratio < SLOWER:
        return ()
    return (f"INT8 is {ratio:.2f} times slower than float32 here: {_why_slower(row, conditions)}",)


def _why_slower(row: ProfileRow, conditions: Conditions) -> str:
    found = sorted(_DOT_PRODUCTS.intersection(conditions.instructions))
    cpu = f"this CPU has {', '.join(found)}" if found else "this CPU has no VNNI or AMX"
    mode = row.options.get("int8")
    return f"{cpu}; measured in the {mode} INT8 mode" if mode else cpu


def _noise_remarks(row: ProfileRow) -> tuple[str, ...]:
    if row.latency is None or row.latency.variation <= NOISY_VARIATION:
        return ()
    return (f"noisy: standard deviation is {row.latency.variation:.0%} of the mean",)
