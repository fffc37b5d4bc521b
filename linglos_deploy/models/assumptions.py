"""What nobody said of how images become a model's input, and is assumed: said aloud, because accuracy hangs on it."""

from __future__ import annotations

from collections.abc import Collection

from linglos_deploy.images.preprocessing import Fit, PreprocessSpec

OPTIONS = {
    "input_size": "--imgsz",
    "mean": "--mean",
    "std": "--std",
    "crop_pct": "--crop-pct",
    "interpolation": "--interpolation",
    "fit": "--fit",
}
"""The option that says it, by field of the preprocessing."""


def assumption(spec: PreprocessSpec, said: Collection[str]) -> str | None:
    """Return a warning about the fields of a preprocessing that nobody said; ``None`` if all were.

    Args:
        spec: The preprocessing.
        said: The fields that somebody said something of.

    >>> print(assumption(PreprocessSpec(crop_pct=1.0), ["input_size", "mean", "std", "interpolation"]))
    Preprocessing is assumed: crop 1. Nobody said it; give --crop-pct if the model was trained otherwise.
    """
    bars = spec.fit is Fit.LETTERBOX
    of_no_use = "crop_pct" if bars else "fit"  # that a whole image is cropped to its middle is what "crop" says
    missing = [name for name in OPTIONS if name not in said and name != of_no_use]
    if not missing:
        return None
    values = ", ".join(_describe(spec, name) for name in missing)
    whose = "ImageNet's " if {"mean", "std"} & set(missing) else ""
    return (
        f"Preprocessing is assumed: {whose}{values}. "
        f"Nobody said it; give {', '.join(OPTIONS[name] for name in missing)} if the model was trained otherwise."
    )


def _describe(spec: PreprocessSpec, name: str) -> str:
    if name == "input_size":
        return f"{spec.input_size[0]} x {spec.input_size[1]} pixels"
    if name in ("mean", "std"):
        return f"{name} {', '.join(f'{number:g}' for number in getattr(spec, name))}"
    if name == "fit":
        return f"{spec.fit} of {spec.fill}"
    return f"crop {spec.crop_pct:g}" if name == "crop_pct" else f"{spec.interpolation} resizing"
