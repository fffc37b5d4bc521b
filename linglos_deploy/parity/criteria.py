"""Limits of the user's own, from a file or from options, on top of the defaults.

``parity.toml``, every part optional::

    [int8]                          # of graphs of one precision: fp32, fp16, bf16, int8, int8+fp16
    sqnr_db = 25
    top1_agreement = false          # not judged

    [int8.outputs.logits]           # of one output
    kl_divergence = 0.05

    [int8.images.data]              # on one set of images: data, golden, "synthetic golden"
    worst_cosine = 0.95

    [backends.openvino.fp32]        # of what one backend runs
    max_relative = 1e-3

What is said of one set of images comes after what is said of all, and what is said of one backend after both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from linglos_deploy.choices import Precision
from linglos_deploy.compat import tomllib
from linglos_deploy.discovery import suggest
from linglos_deploy.errors import UsageError
from linglos_deploy.parity.verdict import Criteria, Limits
from linglos_deploy.reports.parity import ParityReport

NAMES = tuple(limit.name for limit in fields(Limits))

Changes = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class _Part:
    """What a table of one precision says."""

    limits: Changes = field(default_factory=dict)
    outputs: Mapping[str, Changes] = field(default_factory=dict)
    images: Mapping[str, _Part] = field(default_factory=dict)

    def on(self, images: str) -> tuple[_Part | None, ...]:
        """Return this part, and what it says of one set of images."""
        return self, self.images.get(images)


@dataclass(frozen=True, slots=True)
class CriteriaFile:
    """Changes to the default limits.

    Attributes:
        precisions: By precision.
        backends: By backend, then by precision.
        everywhere: Of every output of every candidate; they come last.
    """

    precisions: Mapping[str, _Part] = field(default_factory=dict)
    backends: Mapping[str, Mapping[str, _Part]] = field(default_factory=dict)
    everywhere: Changes = field(default_factory=dict)

    def apply(self, criteria: Criteria, *, backend: str, images: str = "") -> Criteria:
        """Return criteria with all changes that concern them.

        Args:
            criteria: The defaults.
            backend: What runs the candidate.
            images: Name of the set of images.
        """
        key, nothing = str(criteria.precision), _Part()
        found = self.precisions.get(key, nothing), self.backends.get(backend, {}).get(key, nothing)
        parts = [part for one in found for part in one.on(images)]
        limits, outputs = criteria.limits, dict(criteria.outputs)
        for part in parts:
            if part is None:
                continue
            limits = replace(limits, **part.limits)
            agreement = {name: limit for name, limit in part.limits.items() if name == "top1_agreement"}
            outputs = {
                name: replace(own, **(agreement if name in criteria.indices else part.limits))
                for name, own in outputs.items()
            }
            for name, changes in part.outputs.items():
                outputs[name] = replace(outputs.get(name, limits), **changes)
        return Criteria(
            criteria.precision,
            replace(limits, **self.everywhere),
            {name: replace(own, **self.everywhere) for name, own in outputs.items()},
            criteria.indices,
            criteria.views,
            frozenset(self.everywhere).union(
                *(changes for part in parts if part for changes in (part.limits, *part.outputs.values()))
            ),
        )

    def strangers(self, reports: Sequence[ParityReport]) -> tuple[str, ...]:
        """Return the outputs and sets of images that limits are for and no report has; other precisions are no matter.

        Args:
            reports: What was checked.
        """
        precisions = {report.precision for report in reports}
        parts = [
            part
            for named in (self.precisions, *self.backends.values())
            for precision, part in named.items()
            if precision in precisions
        ]
        images = {name for part in parts for name in part.images}
        outputs = {name for part in parts for one in (part, *part.images.values()) for name in one.outputs}
        seen = [output for report in reports for output in report.outputs]
        return (
            *(f"output '{name}'" for name in sorted(outputs - {output.output for output in seen})),
            *(f"images '{name}'" for name in sorted(images - {output.images for output in seen})),
        )


def read_criteria(path: Path | None, options: Mapping[str, float | None] | None = None) -> CriteriaFile:
    """Read a file of limits, and put those of options on top.

    Args:
        path: The file, ``None`` for none.
        options: Limits of every output by name; ``None`` as a limit asks for nothing.

    Raises:
        UsageError: The file is missing or not TOML, or names something that there is not.
    """
    everywhere = _changes(
        {name: False if limit is None else limit for name, limit in (options or {}).items()}, "limits"
    )
    if path is None:
        return CriteriaFile(everywhere=everywhere)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            f"'{path}' is not a file of limits.",
            found=str(error),
            expected="a TOML file with tables such as [int8]",
            next_step="see docs/parity.md for an example",
        ) from error
    source = f"'{path}'"
    backends = _table(content.pop("backends", {}), f"[backends] of {source}")
    return CriteriaFile(
        precisions=_parts(content, source),
        backends={
            name: _parts(_table(parts, f"[backends.{name}] of {source}"), source) for name, parts in backends.items()
        },
        everywhere=everywhere,
    )


def parse_limit(text: str) -> tuple[str, float | None]:
    """Parse ``--limit``: ``sqnr_db=25``, or ``top1_agreement=off``.

    Raises:
        UsageError: The text is something else.
    """
    name, _, value = text.partition("=")
    if value.strip().lower() in {"off", "none"}:
        return _known(name.strip(), NAMES, "limit", "--limit"), None
    try:
        return _known(name.strip(), NAMES, "limit", "--limit"), float(value)
    except ValueError as error:
        raise UsageError(
            f"'{text}' is not a limit.", found=text, expected="NAME=NUMBER or NAME=off", next_step="--limit sqnr_db=25"
        ) from error


def _parts(content: Mapping[str, Any], source: str) -> dict[str, _Part]:
    return {
        _known(name, tuple(map(str, Precision)), "precision", source): _part(
            _table(table, f"[{name}] of {source}"), source
        )
        for name, table in content.items()
    }


def _part(table: Mapping[str, Any], source: str, *, of_images: bool = False) -> _Part:
    outputs = _table(table.get("outputs", {}), f"[outputs] of {source}")
    own = {"outputs"} if of_images else {"outputs", "images"}
    images = {} if of_images else _table(table.get("images", {}), f"[images] of {source}")
    return _Part(
        images={
            name: _part(_table(part, f"[images.{name}] of {source}"), source, of_images=True)
            for name, part in images.items()
        },
        limits=_changes({name: value for name, value in table.items() if name not in own}, source),
        outputs={
            name: _changes(_table(changes, f"[outputs.{name}] of {source}"), source)
            for name, changes in outputs.items()
        },
    )


def _changes(table: Mapping[str, Any], source: str) -> dict[str, float | None]:
    changes: dict[str, float | None] = {}
    for name, value in table.items():
        known = _known(name, NAMES, "limit", source)
        if value is False:
            changes[known] = None
        elif isinstance(value, int | float) and not isinstance(value, bool):
            changes[known] = float(value)
        else:
            raise UsageError(
                f"{source}: '{name}' is not a limit.",
                found=repr(value),
                expected="a number, or false to ask for nothing",
            )
    replace(Limits(), **changes)  # says which one is out of range
    return changes


def _table(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{what} is not a table.", found=repr(value)[:80], expected="limits with names")
    return value


def _known(name: str, names: tuple[str, ...], what: str, source: str) -> str:
    if name in names:
        return name
    raise UsageError(
        f"There is no {what} '{name}' ({source}).",
        found=name,
        expected=", ".join(names),
        next_step=suggest(name, names, otherwise="see docs/parity.md for an example"),
    )
