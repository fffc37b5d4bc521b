from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from linglos_deploy.backends.machine import describe_machine
from linglos_deploy.reports.doctor import Gpu

ROOT = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_benchmark", ROOT / "gpu" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_benchmark"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(bool(describe_machine().gpus), reason="needs a machine without a GPU")
def test_without_a_gpu_it_says_so_and_exits_with_3(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert bench.main(["--out", str(tmp_path)]) == 3
    assert "needs an NVIDIA GPU" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_candidates_take_turns_and_are_compared_with_the_first(bench: ModuleType):
    order: list[str] = []
    calls = {name: (lambda images, name=name: order.append(name)) for name in ("torch eager fp32", "tensorrt fp16")}
    times = bench.time_interleaved(calls, np.zeros(1), rounds=2, runs=3)
    assert [len(values) for values in times.values()] == [6, 6]
    assert order[6:] == (["torch eager fp32"] * 4 + ["tensorrt fp16"] * 4) * 2
    rows = bench.summarize("s", 8, {"torch eager fp32": [0.004] * 5, "tensorrt fp16": [0.002] * 5})
    assert [(row.p50_ms, row.images_per_second, row.speedup) for row in rows] == [
        (4.0, 2000.0, 1.0),
        (2.0, 4000.0, 2.0),
    ]


def test_the_table_names_the_machine_and_shows_failed_checks(bench: ModuleType):
    from dataclasses import replace

    machine = replace(describe_machine(), gpus=(Gpu(0, "NVIDIA L4", "8.9", 24 << 30),), driver="580.65")
    checks = (
        bench.Check("linglo_s", "tensorrt fp16", True, 0.99999, "80 layers: 80 float16", 12.5),
        bench.Check("linglo_s", "tensorrt int8", False, None, "cannot build\n  found: x"),
    )
    rows = tuple(bench.summarize("s", 1, {"torch eager fp32": [0.004], "tensorrt fp16": [0.001]}))
    text = bench.render(bench.Results(machine, {"torch": "2.13"}, checks, rows))
    assert "NVIDIA L4 (compute capability 8.9), driver 580.65; torch 2.13" in text
    assert "| linglo_s | tensorrt int8 | failed |  | 0.0 | cannot build |" in text
    assert "| s | 1 | tensorrt fp16 | 1.000 | 1.000 | 1.000 | 1000 | 4.00 |" in text
