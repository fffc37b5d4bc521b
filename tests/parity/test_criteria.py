from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from linglos_deploy.choices import Precision
from linglos_deploy.errors import UsageError
from linglos_deploy.parity.criteria import NAMES, parse_limit, read_criteria
from linglos_deploy.parity.verdict import Criteria

TEXT = """
[int8]
sqnr_db = 25
top1_agreement = false

[int8.outputs.boxes]
max_abs = 2

[backends.openvino.int8]
cosine = 0.9
"""


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "parity.toml").write_text(TEXT)
    file = read_criteria(tmp_path / "parity.toml")
    default = Criteria.for_precision(Precision.INT8)
    here = file.apply(default, backend="onnxruntime")
    assert here.limits.sqnr_db == 25
    assert here.limits.top1_agreement is None
    assert here.limits.cosine == default.limits.cosine
    assert here.of("boxes").max_abs == 2
    assert here.of("boxes").sqnr_db == 25
    assert here.of("scores") == here.limits
    assert file.apply(default, backend="openvino").limits.cosine == 0.9
    other = Criteria.for_precision(Precision.FP16)
    assert file.apply(other, backend="onnxruntime") == other


def test_options_come_last(tmp_path: Path) -> None:
    (tmp_path / "parity.toml").write_text(TEXT)
    file = read_criteria(tmp_path / "parity.toml", {"sqnr_db": 30.0, "cosine": None})
    found = file.apply(Criteria.for_precision(Precision.INT8), backend="onnxruntime")
    assert (found.limits.sqnr_db, found.of("boxes").sqnr_db, found.limits.cosine) == (30, 30, None)


@pytest.mark.parametrize(
    "text", ["int9 = 1", "[int9]\ncosine = 1", "[int8]\ncosin = 1", "[int8]\ncosine = 7", "[int8]\ncosine = true", "["]
)
def test_what_a_file_should_not_say_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "parity.toml").write_text(text)
    with pytest.raises(UsageError):
        read_criteria(tmp_path / "parity.toml")


def test_limits_on_the_command_line() -> None:
    assert parse_limit("sqnr_db=25") == ("sqnr_db", 25.0)
    assert parse_limit("cosine=off") == ("cosine", None)
    for text in ("sqnr=25", "sqnr_db", "sqnr_db=much"):
        with pytest.raises(UsageError):
            parse_limit(text)


@pytest.mark.parametrize("limits", [{"sqnr_db": "90"}, {"sqnr_db": True}, {"sqnr": 9.0}, {"cosine": 7}])
def test_limits_from_python_are_numbers_with_known_names(limits: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        read_criteria(None, limits)


def test_none_asks_for_nothing() -> None:
    assert read_criteria(None, {"sqnr_db": 30, "cosine": None}).everywhere == {"sqnr_db": 30.0, "cosine": None}


def test_every_limit_is_judged() -> None:
    from linglos_deploy.reports.parity import Metric

    assert set(NAMES) == {str(metric) for metric in Metric if metric is not Metric.MISMATCHED_NONFINITE}
