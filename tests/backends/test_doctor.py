from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from linglos_deploy.backends import doctor, machine
from linglos_deploy.backends.doctor import examine
from linglos_deploy.codec import from_json, to_json
from linglos_deploy.reports.doctor import DoctorReport


def test_the_report_names_every_backend_and_survives_json():
    report = examine()
    assert {backend.name for backend in report.backends} >= {
        "torch",
        "onnxruntime",
        "tensorrt",
        "tensorrt-rtx",
        "openvino",
    }
    assert report.passed
    assert from_json(DoctorReport, to_json(report), source="doctor") == report
    assert report.machine.cpu_count >= 1
    for backend in report.backends:
        assert backend.detail
        assert backend.installed or backend.how_to_get


def test_examining_imports_no_vendor():
    code = (
        "import json, sys; from linglos_deploy.backends.doctor import examine; examine();"
        "heavy = {'torch', 'tensorrt', 'tensorrt_rtx', 'cuda'};"
        "print(json.dumps([name for name in sys.modules if name in heavy]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_a_backend_that_breaks_while_probed_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch):
    def probe(name: str) -> Any:
        raise RuntimeError("broken installation")

    monkeypatch.setattr(doctor.registry, "probe", probe)
    report = examine()
    assert all(backend.detail.endswith("RuntimeError: broken installation") for backend in report.backends)


def test_engines_are_checked_and_one_that_cannot_load_fails_the_report(tmp_path: Path):
    report = examine([tmp_path / "none.engine"])
    assert not report.passed
    assert report.engines[0].conditions[0].name == "sidecar"


class Driver:
    """libcuda, played: two GPUs."""

    def __init__(self, *, start: int = 0, count: int = 2, broken: str = "") -> None:
        self.start, self.count, self.broken = start, count, broken

    def cuInit(self, _flags: int) -> int:
        return self.start

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = 13020
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self.count
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = index
        return 999 if self.broken == "cuDeviceGet" else 0

    def cuDeviceGetName(self, name: Any, _size: int, device: ctypes.c_int) -> int:
        name.value = f"GPU {device.value}".encode()
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, _device: ctypes.c_int) -> int:
        value._obj.value = {75: 8, 76: 9}[attribute]
        return 0

    def cuDeviceTotalMem_v2(self, memory: Any, _device: ctypes.c_int) -> int:
        memory._obj.value = 24 << 30
        return 0


def test_gpus_come_from_the_driver_in_its_order(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: Driver())
    gpus, cuda, detail = machine.find_gpus()
    assert [(gpu.index, gpu.name, gpu.compute_capability) for gpu in gpus] == [(0, "GPU 0", "8.9"), (1, "GPU 1", "8.9")]
    assert gpus[0].memory_bytes == 24 << 30
    assert cuda == "13.2"
    assert detail.startswith("2 found")


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        (Driver(start=100), "cuInit returned 100"),
        (Driver(count=0), "shows no device"),
        (Driver(broken="cuDeviceGet"), "cuDeviceGet returned 999"),
        (object(), "did not answer"),
    ],
)
def test_a_driver_without_gpus_says_why(monkeypatch: pytest.MonkeyPatch, driver: Any, words: str):
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: driver)
    gpus, _, detail = machine.find_gpus()
    assert gpus == ()
    assert words in detail


def test_without_a_driver_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(machine.ctypes, "CDLL", missing)
    monkeypatch.setattr(machine, "_read", lambda path: "")
    described = machine.describe_machine()
    assert (described.gpus, described.driver, described.memory_bytes, described.jetson) == ((), None, None, None)
    assert "libcuda.so.1" in described.gpu_detail
    assert described.cpu


class Nvml:
    """NVML as ``nvidia-ml-py`` shows it, and what it was asked."""

    NVMLError = RuntimeError

    def __init__(self, *, fails: str = "") -> None:
        self.fails = fails
        self.calls: list[str] = []

    def nvmlInit(self) -> None:
        self._call("nvmlInit")

    def nvmlShutdown(self) -> None:
        self._call("nvmlShutdown")

    def nvmlSystemGetDriverVersion(self) -> str:
        self._call("nvmlSystemGetDriverVersion")
        return "580.65.06"

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fails:
            raise self.NVMLError(name)


def test_the_driver_version_comes_from_nvml(monkeypatch: pytest.MonkeyPatch):
    nvml = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert machine.driver_version() == "580.65.06"
    assert nvml.calls == ["nvmlInit", "nvmlSystemGetDriverVersion", "nvmlShutdown"]


@pytest.mark.parametrize(
    ("nvml", "calls"),
    [
        (Nvml(fails="nvmlInit"), ["nvmlInit"]),
        (
            Nvml(fails="nvmlSystemGetDriverVersion"),
            ["nvmlInit", "nvmlSystemGetDriverVersion", "nvmlShutdown"],
        ),
        (None, []),
    ],
    ids=["no driver", "no answer", "not installed"],
)
def test_without_an_answer_of_nvml_the_driver_version_comes_from_proc(
    monkeypatch: pytest.MonkeyPatch, nvml: Nvml | None, calls: list[str]
):
    monkeypatch.setitem(sys.modules, "pynvml", nvml)  # None: as if it were not installed
    monkeypatch.setattr(machine, "_read", lambda path: "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  x")
    assert machine.driver_version() == "550.54.15"
    assert nvml is None or nvml.calls == calls


def test_a_jetson_is_recognized(monkeypatch: pytest.MonkeyPatch):
    text = "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic"
    monkeypatch.setattr(machine, "_read", lambda path: text if "tegra" in str(path) else "")
    assert machine.describe_machine().jetson == "L4T 36.4.3"


def test_a_graph_of_open_sizes_gets_commands_with_the_shapes_that_they_need(tmp_path: Path):
    value, elements = helper.make_tensor_value_info, TensorProto.FLOAT
    inputs = [value("a", elements, ["batch", 3, "h", "w"]), value("b", elements, ["batch", 5])]
    outputs = [value("y", elements, ["batch", 3, "h", "w"]), value("z", elements, ["batch", 5])]
    nodes = [helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Relu", ["b"], ["z"])]
    model = helper.make_model(
        helper.make_graph(nodes, "two", inputs, outputs), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(model, tmp_path / "two.onnx")
    (use,) = examine(graphs=[tmp_path / "two.onnx"]).graphs
    commands = [offer.command for offer in (*use.runs, *use.builds) if offer.possible]
    assert any(command.startswith("linglos-deploy profile") for command in commands)
    for command in commands:
        assert "--shape a=SIZEx3xSIZExSIZE" in command
        assert "--shape b=" not in command
