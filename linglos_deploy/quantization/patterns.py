"""Patterns that name nodes, held against the nodes that there are: a pattern that names nothing is a mistake."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from linglos_deploy.artifacts import OnnxArtifact, load_onnx
from linglos_deploy.errors import UsageError
from linglos_deploy.quantization.scheme import QuantScheme


def check_patterns(scheme: QuantScheme, model: OnnxArtifact) -> None:
    """Check that every pattern of a scheme names a layer that INT8 is considered for.

    Raises:
        UsageError: One of them names none; the message holds the names that come near.
    """
    if not scheme.exclude:
        return
    from linglos_deploy.quantization.candidates import find_candidates  # it imports onnx

    names = [candidate.node for candidate in find_candidates(load_onnx(model.path))]
    for pattern in scheme.exclude:
        if any(re.fullmatch(pattern, name) for name in names):
            continue
        near = " or ".join(f"'{name}'" for name in near_names(pattern, names))
        raise UsageError(
            f"No layer of '{model.path.name}' is named by --nodes-to-exclude '{pattern}'.",
            found=f"{len(names)} layers, such as {', '.join(names[:3])}" if names else "no layer that INT8 could take",
            expected="a regular expression for the whole name of a layer",
            next_step=f"did you mean {near}?" if near else "see 'linglos-deploy quantize --dry-run'",
        )


def near_names(pattern: str, names: Sequence[str], *, count: int = 3) -> list[str]:
    """Return the names that come nearest to a pattern that matches none: those that contain it, else similar ones."""
    plain = re.sub(r"\\(.)", r"\1", pattern).replace(".*", "").strip("/.^$")
    containing = [name for name in names if plain and plain.lower() in name.lower()]
    if containing:
        return containing[:count]
    by_part = {part: name for name in reversed(names) for part in [name, *re.split(r"[/.]", name)]}
    similar = [by_part[part] for part in difflib.get_close_matches(plain, list(by_part), n=count)]
    return list(dict.fromkeys(similar))
