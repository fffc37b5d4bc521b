"""Damage to what turns verdicts into gates: comparisons, JUnit, and the plugin of pytest."""

from __future__ import annotations

from tests.parity.mutants.mutant import damage

MUTANTS = [
    *damage(
        "comparing/quality.py",
        "comparing/test_quality.py",
        ("passed=new.passed or not (old.passed or (old.undecided and not new.undecided)),", "passed=True,"),
        (
            "passed=new.passed or not (old.passed or (old.undecided and not new.undecided)),",
            "passed=new.passed or not old.passed,",
        ),
        (
            "if after is None:\n            yield Change(name, ",
            "if after is None:\n            continue\n            yield Change(name, ",
        ),
        (
            "if found is None:\n                yield",
            "if found is None:\n                continue\n                yield",
        ),
        ("if finding.passed is False and (before is None or before.passed is not False):", "if False:"),
        ("good = after <= allowed.limit if metric.at_most else after >= allowed.limit", "good = True"),
        (
            "good = after <= allowed.limit if metric.at_most else after >= allowed.limit",
            "good = after >= allowed.limit",
        ),
        ("return slack + spread, f", "return 9 * slack + spread, f"),
        ("return theirs[0] if len(mine) == len(theirs) == 1 else None", "return None"),
        ("least = before - share_allowed(", "least = before - 9 * share_allowed("),
        ("limit = before + most if metric.at_most else before - most", "limit = before - most"),
    ),
    *damage(
        "reports/junit.py",
        "reports/test_junit.py",
        ("if section.passed is not None or section.checks]", "]"),
        ("if section.passed is not None or section.checks]", "if section.passed is not None]"),
        ('"failures": str(sum(check.passed is False for check in checks)),', '"failures": "0",'),
        ('"skipped": str(sum(check.passed is None for check in checks)),', '"skipped": "0",'),
        ("suite.extend(_case(check, section) for check in _told_apart(checks))", "pass"),
        ("for check in _told_apart(checks)", "for check in checks"),
        ("    if check.passed is None:\n", "    if not check.passed:\n"),
        ("elif not check.passed:", "elif False:"),
        ('return " ".join(printable(text).split()) or "–"', "return text"),
        ("found {check.found}, expected {check.limit}", "found {check.limit}, expected {check.found}"),
    ),
    *damage(
        "pytest_plugin.py",
        "test_pytest_plugin.py",
        ("if undecided:", "if False:"),
        ("        if not passed:\n", "        if False:\n"),
        ("if check.passed is False:", "if check.passed is True:"),
    ),
    *damage(
        "comparing/comparers/bundle.py",
        "comparing/test_bundles.py",
        ("GROWTH = 0.05", "GROWTH = 50"),
        ("*compare_accuracy(before.accuracy, after.accuracy, tolerances),", ""),
        ("*compare_quality(before.parity, after.parity, tolerances),", ""),
        ("*_plans(first, second, tolerances),", ""),
        ("*_inner_tensors(was, now),", ""),
        ('"still there", passed=False)', '"still there", passed=True)'),
        ("passed=counts[1] >= least,", "passed=True,"),
        ("NOTABLE_BOUND = 0.1", "NOTABLE_BOUND = 9"),
        ("NOTABLE_DB = 3.0", "NOTABLE_DB = 30.0"),
    ),
]
