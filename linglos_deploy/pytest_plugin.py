"""Parity as a test: the fixture ``linglos_parity`` of every pytest that runs where this package is installed.

def test_parity(linglos_parity):
linglos_parity.check("build/linglo_s", data="val/", images=64)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from linglos_deploy.api import StrPath
    from linglos_deploy.reports.comparison import ComparisonReport
    from linglos_deploy.reports.parity import ParityOutcome


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Checks whose bad verdicts fail the test, with every reason.

    Attributes:
        test: The test that asked; reports of pytest get the verdicts as its properties.
    """

    test: pytest.Item

    def check(self, candidate: StrPath, **options: Any) -> ParityOutcome:
        """Check a bundle, a graph or an engine, and fail the test where it drifted.

        Args:
            candidate: What to check.
            options: As for :func:`linglos_deploy.check_parity`: ``data``, ``images``, ``reference``, ``model``,
                ``precision``, ``limits``, ``criteria``, ``threads``, …

        Returns:
            The verdicts, if they are good.

        Raises:
            LinglosError: Nothing could be checked.
        """
        __tracebackhide__ = True
        from linglos_deploy import api

        outcome = api.check_parity(candidate, **options)
        self._settle(outcome, passed=outcome.passed, undecided=outcome.undecided)
        return outcome

    def compare(self, old: StrPath, new: StrPath, **tolerances: Any) -> ComparisonReport:
        """Compare two bundles or reports, and fail the test where the new one is worse than it may be, or may be worse.

        Args:
            old: What is good enough.
            new: Another one of the same kind.
            tolerances: As for :func:`linglos_deploy.compare`.

        Returns:
            The comparison, if nothing is worse.

        Raises:
            LinglosError: The two cannot be compared.
        """
        __tracebackhide__ = True
        from linglos_deploy import api

        report = api.compare(old, new, **tolerances)
        self._settle(report, passed=report.passed, undecided=report.undecided)
        return report

    def _settle(self, report: object, *, passed: bool, undecided: bool) -> None:
        __tracebackhide__ = True
        self.test.user_properties += list(_properties(report))
        if undecided:
            pytest.fail("\n".join(["It cannot be told whether this is good:", *_untold(report)]), pytrace=False)
        if not passed:
            pytest.fail("\n".join(_reasons(report)), pytrace=False)


@pytest.fixture
def linglos_parity(request: pytest.FixtureRequest) -> Verdicts:
    """Check bundles, graphs and engines: ``linglos_parity.check("build/linglo_s", data="val/")``."""
    return Verdicts(request.node)


def _properties(report: object) -> Iterator[tuple[str, object]]:
    from linglos_deploy.reports.document import all_sections

    for section in all_sections([report]):
        if section.passed is not None:
            yield section.title, section.summary


def _reasons(report: object) -> Iterator[str]:
    from linglos_deploy.reports.document import all_sections, printable

    for section in all_sections([report]):
        if section.passed is not False:
            continue
        yield printable(f"{section.title}: {section.summary}")
        for check in section.checks:
            if check.passed is False:
                yield printable(f"  {check.name}: found {check.found}, expected {check.limit}")
        for warning in section.warnings:
            yield printable(f"  warning: {warning}")


def _untold(report: object) -> Iterator[str]:
    from linglos_deploy.reports.document import all_sections, printable

    for section in all_sections([report]):
        for check in section.checks:
            if check.passed is None:
                yield printable(f"  {check.name}: {check.found}; {check.limit}")
