"""The default limits, number by number: a change of one is a decision, and changes docs/parity.md with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from linglos_deploy.choices import Precision
from linglos_deploy.parity.verdict import Criteria, Limits

DOCS = Path(__file__).parents[2] / "docs" / "parity.md"
PRECISIONS = (Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_documentation_states_the_default_limits(precision: Precision) -> None:
    stated: dict[str, float] = {}
    for line in DOCS.read_text(encoding="utf-8").splitlines():
        if row := re.fullmatch(r"\| `(\w+)` \|(.*)\|(.*)\|(.*)\|(.*)\|[^|]*\|", line):
            value = row.group(2 + PRECISIONS.index(precision)).strip()
            if value:
                stated[row.group(1)] = float(value)
    assert Criteria.for_precision(precision).limits == Limits(**stated)
