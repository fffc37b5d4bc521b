"""Two bundles or two reports of one kind, compared by the comparer of that kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol

from linglos_deploy.comparing import comparers
from linglos_deploy.comparing.tolerances import Tolerances
from linglos_deploy.discovery import Catalogue
from linglos_deploy.errors import UsageError
from linglos_deploy.kinds import Kind, kind_of, report_type
from linglos_deploy.reports.comparison import ComparisonReport
from linglos_deploy.reports.export import ExportReport
from linglos_deploy.reports.parity import ParityOutcome, ParityReport
from linglos_deploy.reports.profile import ProfileReport

_COMPARERS = Catalogue(comparers)

_REPORTS: dict[type | None, str] = {
    ParityOutcome: "parity",
    ParityReport: "parity",
    ExportReport: "export",
    ProfileReport: "profile",
}


class Comparer(Protocol):
    """Compares two things of one kind."""

    def __call__(self, old: Path, new: Path, tolerances: Tolerances) -> ComparisonReport:
        """Return what has changed, and whether the new one is worse than it may be.

        Raises:
            UsageError: The two cannot be compared.
            ArtifactError: One of them is damaged.
        """
        ...


def compare_paths(old: Path, new: Path, tolerances: Tolerances) -> ComparisonReport:
    """Compare what lies at two paths.

    Args:
        old: A bundle or a report.
        new: Another one of the same kind.
        tolerances: How much worse the new one may be.

    Raises:
        UsageError: They are of two kinds, nothing compares this kind, or a tolerance has no use there.
        ArtifactError: One of them is missing or damaged.
    """
    kind, other = subject_kind(old), subject_kind(new)
    if kind != other:
        raise UsageError(
            "Two different things cannot be compared.",
            found=f"'{old}', {_named(kind)}; '{new}', {_named(other)}",
            expected="two bundles, or two reports of one kind",
            next_step="name an older one of the same kind; 'linglos-deploy inspect PATH' says what a file is",
        )
    comparer, obeys = load_comparer(kind)
    if unused := sorted(tolerances.given - obeys):
        raise UsageError(
            f"A comparison of two {kind}s has no use for {_option(unused[0])}.",
            found=", ".join(map(_option, unused)),
            expected=", ".join(map(_option, sorted(obeys))) or "no tolerances",
            next_step="leave it out",
        )
    return comparer(old, new, tolerances)


def subject_kind(path: Path) -> str:
    """Return what ``path`` is to a comparison: the name of a comparer, or of a kind that has none.

    Raises:
        ArtifactError: There is nothing at ``path``.
        UsageError: It is nothing that this program makes.
    """
    kind = kind_of(path)
    if kind is Kind.REPORT:
        return _REPORTS.get(report_type(json.loads(path.read_bytes())), str(kind))
    return str(kind)


def load_comparer(kind: str) -> tuple[Comparer, frozenset[str]]:
    """Import the comparer of a kind; return it, and the tolerances that it minds.

    Raises:
        UsageError: There is none.
    """
    if kind not in _COMPARERS:
        raise UsageError(
            f"Nothing compares {_named(kind)} with another one.",
            found=kind,
            expected=", ".join(_COMPARERS.names()),
            next_step="compare the bundles that they belong to",
        )
    comparer: Comparer = _COMPARERS.load(kind, f"compare_{kind}")
    return comparer, frozenset(_COMPARERS.load(kind, "OBEYS"))


def _named(kind: str) -> str:
    return {"parity": "a report of parity", "export": "a report of an export", "profile": "a report of latency"}.get(
        kind, f"a {kind}"
    )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
