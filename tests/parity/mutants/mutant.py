"""What a mutant is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One damage, and the tests that must see it.

    Attributes:
        file: What it damages, from the root of the repository.
        old: A text of that file.
        new: What stands in its place.
        tests: Files of tests, quick ones first.
    """

    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def damage(file: str, tests: str, *damages: tuple[str, str]) -> list[Mutant]:
    """Return mutants of one file of the package that the same tests see; files in ``tests/`` or ``tests/parity/``."""
    places = tuple(
        f"tests/{name}" if (ROOT / "tests" / name).is_file() else f"tests/parity/{name}" for name in tests.split()
    )
    return [Mutant(f"linglos_deploy/{file}", old, new, places) for old, new in damages]
