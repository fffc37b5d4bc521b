from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
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
    measured: list[tuple[str, ...]] = []
    broken = {("openvino", "s", "int8", "fixed")}

    def measure(*bundle: str, engines: list[str], tools: dict[str, str], **_: Any) -> list[Any]:
        cells = [(engine, *bundle) for engine in engines]
        measured.extend(cells)
        return [matrix.Row(*cell, passed=cell not in broken, detail="it does not build", tools=tools) for cell in cells]

    monkeypatch.setattr(matrix, "measure", measure)
    call = ["--out", str(tmp_path), "--variants", "s,t", "--precisions", "int8"]
    assert matrix.main(call) == 1
    assert len(measured) == 8
    assert "it does not build" in (tmp_path / "engines.md").read_text()
    broken.clear()
    assert matrix.main(call) == 0
    assert measured[8:] == [("openvino", "s", "int8", "fixed")]
    assert matrix.main([*call, "--again"]) == 0
    assert len(measured) == 17
    monkeypatch.setattr(matrix, "tool_versions", lambda *_: {"tensorrt-rtx-cu13": "99"})
    assert matrix.main(call) == 0
    assert len(measured) == 25


def test_a_cell_is_a_whole_bundle_whose_engine_is_checked(
    matrix: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tiny = ModelSource(checkpoint=write_tiny_checkpoint(tmp_path / "tiny.safetensors"))
    monkeypatch.setattr(matrix, "ModelSource", lambda **_: tiny)
    reports = []
    export = matrix.export_bundle
    monkeypatch.setattr(matrix, "export_bundle", lambda request: reports.append(export(request)) or reports[-1])
    rows = matrix.measure(
        "t", "fp16", "fixed", engines=["tensorrt-rtx", "openvino"], imgsz=32, folder=tmp_path, tools={}
    )
    assert [row.engine for row in rows] == ["tensorrt-rtx", "openvino"]
    for row in rows:
        assert all(problem.startswith("the cache is not") for problem in row.detail.split("; ") if problem)
        assert row.engine_bytes > 0
        assert row.graph_bytes > 0
    assert rows[0].expected[0] == "float16"
    assert [outcome.backend for outcome in reports[0].engines] == ["tensorrt-rtx"]

    report, again = reports[0], next((tmp_path / "again" / "tensorrt-rtx").glob("*.engine"))
    plan = Path(report.bundle) / str(report.engines[0].file)
    check = partial(matrix.check, plan, again=again, precision="fp16", dynamic=False)
    assert list(check()) == list(matrix.check_bundle(report, plan)) == []
    assert list(check(dynamic=True)) == ["other sizes than asked for"]
    assert list(check(precision="int8")) == ["no int8 in the graph"]
    assert list(matrix.check_bundle(replace(report, passed=False), plan)) == ["parity"]
    again.write_bytes(again.read_bytes()[:-1])
    assert list(check()) == ["the second engine is another one"]
    next(Path(report.bundle).glob("*.log")).unlink()
    with pytest.raises(ArtifactError):
        list(matrix.check_bundle(report, plan))


@pytest.mark.parametrize(
    ("engine", "precision", "expected"),
    [
        ("openvino", "int8", "model.int8.openvino.onnx"),
        ("openvino", "fp16", "model.fp16.onnx"),
        ("openvino", "int8+fp16", "model.int8+fp16.onnx"),
        ("tensorrt-rtx", "int8", "model.int8.onnx"),
        ("openvino", "fp32", "model.onnx"),
    ],
)
def test_each_compiler_gets_the_graph_that_is_made_for_it(
    matrix: ModuleType, tmp_path: Path, engine: str, precision: str, expected: str
):
    for name in (
        "model.onnx",
        "model.int8.onnx",
        "model.int8.openvino.onnx",
        "model.fp16.onnx",
        "model.int8+fp16.onnx",
    ):
        (tmp_path / name).touch()
    report = SimpleNamespace(bundle=str(tmp_path), precision=precision)
    assert matrix.graph_for(engine, report) == expected
