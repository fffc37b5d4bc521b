"""Is a constant the parent's, to the bit or as a 16-bit type rounds it?"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from linglos_deploy.parity.nodes import Array


def rounded_alike(wanted: Array, found: Array, element: ir.DataType | None) -> bool:
    """Whether ``found`` is ``wanted`` to the bit, or as the candidate's 16-bit type rounds it.

    Args:
        wanted: The parent's values.
        found: The candidate's.
        element: The 16-bit type that float32 constants may have become, ``None`` if they may not.
    """
    if wanted.shape != found.shape:
        return False
    if wanted.dtype == found.dtype:
        return wanted.tobytes() == found.tobytes()
    if element is None or wanted.dtype != np.float32 or found.dtype != element.numpy():
        return False
    with np.errstate(over="ignore"):
        rounded = wanted.astype(found.dtype)
    with np.errstate(invalid="ignore"):  # infinities
        same = (rounded == found) | (np.isnan(wanted) & np.isnan(found.astype(np.float32)))
    # What would vanish, or overflow, may be kept at the end of the type's range instead.
    if element is ir.DataType.FLOAT16:
        limits, narrow = np.finfo(np.float16), found.astype(np.float32)
        magnitude, kept = np.abs(wanted), np.abs(narrow)
        tiny = (rounded == 0) & (wanted != 0) & (narrow != 0) & (kept <= limits.tiny)
        huge = (magnitude > limits.max) & np.isfinite(wanted) & (kept == limits.max)
        same |= (tiny | huge) & (np.signbit(wanted) == np.signbit(narrow))
    return bool(same.all())


def show_gap(wanted: Array, found: Array) -> str:
    """Return how two constants differ, in words."""
    if wanted.shape != found.shape:
        return f"shape {list(found.shape)} instead of {list(wanted.shape)}"
    if wanted.dtype.kind not in "fV" and wanted.dtype != found.dtype:
        return f"{found.dtype} instead of {wanted.dtype}"
    with np.errstate(over="ignore"):
        rounded = wanted.astype(found.dtype) if wanted.dtype.kind == "f" else wanted
    left, right = (array.astype(np.float64).reshape(-1) for array in (rounded, found))
    with np.errstate(invalid="ignore"):  # infinities
        off = np.abs(left - right)
    place = int(np.nanargmax(off)) if np.isfinite(off).any() else 0
    count = np.count_nonzero(left != right)
    return f"{count} of {left.size} values differ, such as {right[place]:.6g} for {left[place]:.6g}"
