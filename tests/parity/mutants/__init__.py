"""Weaken each limit and check of parity in turn, and expect the tests to notice.

    python -m tests.parity.mutants            all of them
    python -m tests.parity.mutants structure  those of files whose path holds a word

A mutant is a text of a file and what stands in its place. It is written into a copy of the package, on which the tests
named beside it run; they must fail. Exits with 1 if a mutant lives.
"""

from tests.parity.mutants import checks, reporting
from tests.parity.mutants.mutant import ROOT, Mutant

MUTANTS = [*checks.MUTANTS, *reporting.MUTANTS]

__all__ = ["MUTANTS", "ROOT", "Mutant"]
