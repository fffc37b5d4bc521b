"""What a comparison of an old thing with a new one found, and whether the new one is worse than it may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was held against what it was before.

    Attributes:
        subject: What it is about, such as ``"model.int8.onnx: logits on golden images"``.
        measure: What of it, such as ``"SQNR"``.
        old: What it was, as the reader sees it.
        new: What it is now.
        allowed: What would have been good enough, and why; empty where nothing was asked.
        passed: Whether it is; ``None`` where nothing was asked, and the change is only told.
        old_value: The old number, where it is one.
        new_value: The new number, where it is one.
        undecided: Whether something was asked that the figures cannot tell; ``passed`` is ``None`` then.
    """

    subject: str
    measure: str
    old: str
    new: str
    allowed: str = ""
    passed: bool | None = None
    old_value: float | None = None
    new_value: float | None = None
    undecided: bool = False


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """The answer of ``linglos-deploy compare``.

    Attributes:
        kind: What was compared: ``"bundle"``, ``"parity"``, ``"profile"``.
        old: Where the old one lies.
        new: Where the new one lies.
        changes: Everything that was judged, and what else has changed.
        passed: Whether nothing is worse than it may be.
        warnings: What makes the comparison doubtful.
        schema: Name and version of this format.
    """

    kind: str
    old: str
    new: str
    changes: tuple[Change, ...]
    passed: bool
    warnings: tuple[str, ...] = ()
    schema: Literal["linglos.comparison/1"] = "linglos.comparison/1"

    @classmethod
    def of(
        cls, kind: str, old: str, new: str, changes: tuple[Change, ...], warnings: tuple[str, ...] = ()
    ) -> ComparisonReport:
        """Return the report whose verdict follows from its changes."""
        return cls(kind, old, new, changes, all(change.passed is not False for change in changes), warnings)

    @property
    def undecided(self) -> bool:
        """Whether nothing is known to be worse than it may be, but something could not be told."""
        return self.passed and any(change.undecided for change in self.changes)
