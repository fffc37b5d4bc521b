"""Threshold methods by name: a file is a method, and other distributions bring more."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from linglos_deploy.calibration import methods
from linglos_deploy.calibration.observers import observe
from linglos_deploy.calibration.registry import (
    ENTRY_POINTS,
    Settings,
    builtin_methods,
    check_method,
    load_method,
    threshold_methods,
)
from linglos_deploy.calibration.statistics import TensorStatistics
from linglos_deploy.calibration.thresholds import best_method, threshold
from linglos_deploy.errors import UsageError
from linglos_deploy.quantization.scheme import QuantScheme

HALF = '''"""Half of the largest magnitude."""


def half(stats, settings):
    """Return half of the largest magnitude."""
    return stats.absolute_maximum / 2
'''
STATS = observe(np.linspace(-8, 8, 1001, dtype=np.float32)[None])


@pytest.fixture
def one_file_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "half.py").write_text(HALF)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    yield "half"
    sys.modules.pop(f"{methods.__name__}.half", None)


def from_elsewhere(stats: TensorStatistics, settings: Settings) -> float:
    """Return as many units as there are levels: a method of another distribution."""
    return settings.levels / 100 * stats.absolute_maximum / 8


@pytest.fixture
def one_distribution_more(monkeypatch: pytest.MonkeyPatch) -> str:
    point = importlib.metadata.EntryPoint("elsewhere", f"{__name__}:from_elsewhere", ENTRY_POINTS)
    real = importlib.metadata.entry_points

    def entry_points(*, group: str) -> object:
        return (point,) if group == ENTRY_POINTS else real(group=group)

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    return "elsewhere"


def test_every_module_is_a_method_of_its_own_name() -> None:
    assert {"absmax", "entropy", "mse", "percentile"} <= set(builtin_methods())
    for name in builtin_methods():
        assert load_method(name)(STATS, Settings()) > 0


def test_a_file_is_a_method_everywhere(one_file_more: str) -> None:
    from linglos_deploy.calibration.figures import histogram
    from linglos_deploy.options import complete_method

    assert one_file_more in threshold_methods()
    assert threshold(STATS, one_file_more) == 4.0
    assert QuantScheme(method=one_file_more).method == one_file_more
    assert best_method(STATS, ["half", "absmax"]) == ("absmax", 8.0)
    assert complete_method("h") == [one_file_more]
    drawn = histogram(STATS)
    assert drawn is not None
    assert ("half", 4.0) in [(mark.label, mark.value) for mark in drawn.marks]


def test_another_distribution_brings_a_method(one_distribution_more: str) -> None:
    assert one_distribution_more in threshold_methods()
    assert threshold(STATS, one_distribution_more) == 1.27
    assert check_method(one_distribution_more) == one_distribution_more


def test_what_a_method_says_is_kept_within_what_was_seen(one_file_more: str, tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text(HALF.replace("/ 2", "* 2"))
    assert threshold(STATS, one_file_more) == 8.0
    assert threshold(TensorStatistics(), one_file_more) == 0.0


def test_an_unknown_method_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="There is no threshold method 'entrpy'") as caught:
        QuantScheme(method="entrpy")
    assert caught.value.next_step == "did you mean 'entropy'?"
    with pytest.raises(UsageError, match="no threshold method"):
        threshold(STATS, "sorcery")


def test_naming_the_methods_imports_none_of_them() -> None:
    code = (
        "import sys; from linglos_deploy.calibration.registry import threshold_methods; threshold_methods(); "
        "print([name for name in ('numpy', 'linglos_deploy.calibration.methods.mse') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
