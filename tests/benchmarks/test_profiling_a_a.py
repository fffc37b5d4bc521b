"""The experiment on real runs: resumable, and its table counts what was found."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from linglos_deploy.backends import registry
from linglos_deploy.profiling import blocks
from linglos_deploy.profiling.process import start_worker

FOLDER = Path(__file__).parents[2] / "benchmarks" / "profiling"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(registry, "BUILTIN", dict(registry.BUILTIN))
    monkeypatch.setattr(blocks, "start_worker", start_worker)  # the benchmark replaces it
    import a_a

    registry.BUILTIN["slowed"] = "slowed:Slowed"
    yield a_a
    for name in ("a_a", "slowed"):
        sys.modules.pop(name, None)


def finding(text: str) -> dict[str, Any]:
    return {"finding": text, "ratio": [1.0, 0.99, 1.01], "load_before": 0.5}


def test_what_is_there_is_not_measured_again_and_everything_is_counted(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results, measured = tmp_path / "results.jsonl", []

    def run(experiment: Any, model: Path, plan: Any) -> dict[str, Any]:
        measured.append(experiment)
        return finding("slower" if len(measured) == 3 else experiment.right)

    monkeypatch.setattr(bench, "run", run)
    bench.main([str(results), "--runs", "1"])
    assert len(measured) == 5
    bench.main([str(results), "--runs", "2"])
    assert len(measured) == 10
    said = capsys.readouterr().out
    assert "| a/a | quiet | 0% | 2 | 2 | – | 1.0% | 0.5 to 0.5 |" in said
    assert "| a/a | memory | 0% | 1 | 2 | 1 slower |" in said
    bench.main([str(results), "--report"])
    assert len(measured) == 10


def test_a_measurement_really_plants_its_difference(bench: Any, tmp_path: Path) -> None:
    model = bench.write_network(tmp_path / "network.onnx", layers=1, channels=2, size=4)
    planted = bench.Experiment("planted", "quiet", 4.0, "slower")
    plan = bench.MeasurementPlan(processes=1, rounds=1, min_runs=30, min_seconds=0, warmup_seconds=0)
    assert bench.run(planted, model, plan)["ratio"][0] > 2
