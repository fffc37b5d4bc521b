"""Multiply-accumulates of each form, and the choice that follows from them."""

from __future__ import annotations

from dataclasses import dataclass

from linglos_deploy.exporters.config import Decomposition

FORMS = (Decomposition.REFERENCE, Decomposition.POOLED, Decomposition.REASSOCIATED)


@dataclass(frozen=True, slots=True)
class AttentionSize:
    """What the cost of an attention depends on: C, h and N at the nominal resolution."""

    channels: int
    heads: int
    positions: int


def macs(form: Decomposition, size: AttentionSize) -> int:
    """Return the multiply-accumulates of one attention and one image.

    Counted are matrix products; per position, the other forms' gate and pooled sum cost 2 h C.

    >>> size = AttentionSize(channels=64, heads=2, positions=3136)
    >>> [round(macs(form, size) / 1e6, 1) for form in FORMS]
    [39.1, 26.5, 13.9]
    """
    C, h, N = size.channels, size.heads, size.positions
    gate_and_sum = 2 * h * C * N
    if form is Decomposition.REFERENCE:
        return 3 * C * C * N + h * C * N + C * N
    if form is Decomposition.POOLED:
        return 2 * C * C * N + C * C + gate_and_sum
    return C * C * N + C**3 + 2 * C * C + gate_and_sum


def choose(size: AttentionSize, *, int8: bool) -> tuple[Decomposition, str]:
    """Return the cheapest form and the reason for it.

    Args:
        size: The attention.
        int8: Whether constant weights must stay constant, so that a quantizer can take them.
    """
    if int8:
        return Decomposition.POOLED, "INT8 needs constant weights, which the reassociated form has not"
    form = min(FORMS, key=lambda candidate: macs(candidate, size))
    C, N = size.channels, size.positions
    if form is Decomposition.REASSOCIATED:
        return form, f"one {C} x {C} product per position instead of two repays building it: {N} positions"
    return form, f"{N} positions are too few to repay a {C} x {C} x {C} product"
