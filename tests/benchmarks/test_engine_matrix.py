from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from linglos_deploy.errors import ArtifactError
from linglos_deploy.models.loading import ModelSource
from tests.commandline import write_tiny_checkpoint

pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'linglos-deploy[tensorrt-rtx]'")
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "engines" / "matrix.py"


@pytest.fixture
def matrix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("engine_matrix", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "engine_matrix", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return module


def test_a_second_run_measures_only_what_is_missing_or_failed(
    matrix: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    measured: list[tuple[str, str, str]] = []
    broken = {("s", "int8", "fixed")}

    def measure(*cell: str, tools: dict[str, str], **_: Any) -> Any:
        measured.append(cell)  # type: ignore[arg-type]
        return matrix.Row(*cell, passed=cell not in broken, detail="it does not build", tools=tools)

    monkeypatch.setattr(matrix, "measure", measure)
    call = ["--out", str(tmp_path), "--variants", "s,t", "--precisions", "int8"]
    assert matrix.main(call) == 1
    assert len(measured) == 4
    assert "it does not build" in (tmp_path / "engines.md").read_text()
    broken.clear()
    assert matrix.main(call) == 0
    assert measured[4:] == [("s", "int8", "fixed")]
    assert matrix.main([*call, "--again"]) == 0
    assert len(measured) == 9
    monkeypatch.setattr(matrix, "tool_versions", lambda *_: {"tensorrt-rtx-cu13": "99"})
    assert matrix.main(call) == 0
    assert len(measured) == 13


def test_a_cell_is_a_whole_bundle_whose_engine_is_checked(
    matrix: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tiny = ModelSource(checkpoint=write_tiny_checkpoint(tmp_path / "tiny.safetensors"))
    monkeypatch.setattr(matrix, "ModelSource", lambda **_: tiny)
    reports = []
    export = matrix.export_bundle
    monkeypatch.setattr(matrix, "export_bundle", lambda request: reports.append(export(request)) or reports[-1])
    row = matrix.measure("t", "fp16", "fixed", imgsz=32, folder=tmp_path, tools={})
    assert all(problem.startswith("the cache is not") for problem in row.detail.split("; ") if problem)
    assert row.expected[0] == "float16"
    assert row.engine_bytes > row.graph_bytes > 0

    report, again = reports[0], next((tmp_path / "again").glob("*.engine"))
    assert list(matrix.check(report, again=again, dynamic=False)) == []
    assert list(matrix.check(report, again=again, dynamic=True)) == ["other sizes than asked for"]
    assert list(matrix.check(replace(report, precision="int8"), again=again, dynamic=False)) == ["no int8 in the graph"]
    assert list(matrix.check(replace(report, passed=False), again=again, dynamic=False)) == ["parity"]
    again.write_bytes(again.read_bytes()[:-1])
    assert list(matrix.check(report, again=again, dynamic=False)) == ["the second engine is another one"]
    next(Path(report.bundle).glob("*.log")).unlink()
    with pytest.raises(ArtifactError):
        list(matrix.check(report, again=again, dynamic=False))
