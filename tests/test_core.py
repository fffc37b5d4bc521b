"""What a target needs runs without PyTorch: the core of the package, and everything but exporting."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import linglos_deploy
from tests.conftest import Shipped

EXPORT_EXTRA = ("torch", "onnxscript", "onnxsim")

WITHOUT = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXPORT_EXTRA}:
            raise ModuleNotFoundError(f"No module named '{{name}}'", name=name)

sys.meta_path.insert(0, Missing())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {EXPORT_EXTRA} else found(name, package)
"""
"""Makes a package as missing as one that was never installed."""

PYTORCH_ONLY = (
    "linglos_deploy.backends.calling",
    "linglos_deploy.exporters.decompositions.",
    "linglos_deploy.exporters.export",
    "linglos_deploy.exporters.naming",
    "linglos_deploy.exporters.tracing",
    "linglos_deploy.models.attention",
    "linglos_deploy.models.heads",
    "linglos_deploy.models.linglo",
    "linglos_deploy.tasks.kinds.detect.graph_nms",
    "linglos_deploy.tasks.kinds.detect.head",
    "linglos_deploy.tasks.kinds.detect.select",
    "linglos_deploy.tasks.kinds.segment.head",
)
"""The half that is nothing without PyTorch: its modules subclass, rewrite and trace PyTorch's."""


def without_pytorch(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process where the extra 'export' is not installed."""
    return subprocess.run([sys.executable, "-c", WITHOUT + code], cwd=folder, capture_output=True, text=True)


def test_every_module_but_the_exporting_half_imports_without_pytorch(tmp_path: Path) -> None:
    names = [module.name for module in pkgutil.walk_packages(linglos_deploy.__path__, "linglos_deploy.")]
    core = [name for name in names if not name.startswith(PYTORCH_ONLY)]
    assert len(core) > len(names) * 0.8
    done = without_pytorch(f"import importlib\nfor name in {core}: importlib.import_module(name)", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.xdist_group("shipped")
def test_a_target_checks_profiles_calibrates_and_quantizes_without_pytorch(shipped: Shipped, tmp_path: Path) -> None:
    model = shipped.bundle / "model.onnx"
    commands = [
        ["doctor"],
        ["inspect", shipped.bundle],
        ["parity", shipped.bundle],
        ["calibrate", model, "--data", shipped.images, "-o", "table"],
        ["quantize", model, "--table", "table", "-o", "mine.onnx"],
        ["parity", "mine.onnx", "--reference", model, "--data", shipped.images],
        ["profile", model, "--rounds", "2", "--seconds", "0.01"],
    ]
    code = f"""
from linglos_deploy.cli import app
for command in {[[str(part) for part in command] for command in commands]}:
    try:
        app(command)
    except SystemExit as end:
        assert not end.code, (command, end.code)
"""
    done = without_pytorch(code, tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "not installed" in done.stdout  # doctor says so of PyTorch


@pytest.mark.xdist_group("shipped")
@pytest.mark.parametrize("what", ["export", "parity"])
def test_what_needs_pytorch_says_what_to_install(what: str, shipped: Shipped, tmp_path: Path) -> None:
    command = [
        what,
        *([str(shipped.bundle), "--data", str(shipped.images)] if what == "parity" else []),
        "--checkpoint",
        str(shipped.checkpoint),
    ]
    done = without_pytorch(f"from linglos_deploy.cli import app\napp({command})", tmp_path)
    assert done.returncode == 3, done.stderr[-2000:]
    assert "torch, onnxscript, onnxsim not installed" in done.stderr
    assert "pip install 'linglos-deploy[export]'" in done.stderr
