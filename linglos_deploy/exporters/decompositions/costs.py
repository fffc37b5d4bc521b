"""Multiply-accumulates of each form, and the choice that follows from them."""

from __future__ import annotations

from linglos_deploy.exporters.decompositions.form import AttentionSize
from linglos_deploy.exporters.decompositions.registry import REFERENCE, form_names, load_form


def macs(form: str, size: AttentionSize) -> int:
    """Return the multiply-accumulates of one attention and one image.

    Counted are matrix products; per position, the other forms' gate and pooled sum cost 2 h C.

    Raises:
        UsageError: There is no such form.

    >>> size = AttentionSize(channels=64, heads=2, positions=3136)
    >>> [round(macs(form, size) / 1e6, 1) for form in ("reference", "pooled", "reassociated")]
    [39.1, 26.5, 13.9]
    """
    if form != REFERENCE:
        return load_form(form).macs(size)
    C, h, N = size.channels, size.heads, size.positions
    return 3 * C * C * N + h * C * N + C * N


def choose(size: AttentionSize, *, int8: bool) -> tuple[str, str]:
    """Return the cheapest form and the reason for it.

    Args:
        size: The attention.
        int8: Whether constant weights must stay constant, so that a quantizer can take them.
    """
    if int8:
        constant = [name for name in form_names() if load_form(name).constant_weights]
        return min(constant, key=lambda name: macs(name, size)), _why_constant()
    best = min(form_names(), key=lambda name: macs(name, size))
    if macs(best, size) < macs(REFERENCE, size):
        return best, load_form(best).why(size)
    C, N = size.channels, size.positions
    return REFERENCE, f"{N} positions are too few to repay a {C} x {C} x {C} product"


def _why_constant() -> str:
    without = [name for name in form_names() if not load_form(name).constant_weights]
    listed = " and ".join(without)
    return f"INT8 needs constant weights, which the {listed} form{'s have' if len(without) > 1 else ' has'} not"
