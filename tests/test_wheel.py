"""The wheel works where nothing of the checkout is: other Pythons, no PyTorch, another machine's processor."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import Shipped

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("shipped")]


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command without the checkout on its path; return what it printed."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**kept, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as a release would."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


def interpreter(version: str) -> str:
    """Find a Python of a version, on the path or where pyenv keeps them; skip the test where there is none."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for found in (shutil.which(f"python{version}"), *sorted(kept.glob(f"{version}.*/bin/python"))):
        if found and subprocess.run([found, "-c", ""], capture_output=True).returncode == 0:
            return str(found)
    pytest.skip(f"no Python {version} here; install one, such as with pyenv")


@pytest.mark.parametrize("version", PYTHONS)
def test_a_target_without_pytorch_uses_a_bundle(version: str, wheel: Path, shipped: Shipped, tmp_path: Path) -> None:
    run(interpreter(version), "-m", "venv", "env", cwd=tmp_path)
    run("env/bin/pip", "install", "-q", "--disable-pip-version-check", wheel, cwd=tmp_path)
    assert "torch" not in run("env/bin/pip", "list", cwd=tmp_path)
    model = shipped.bundle / "model.onnx"
    for command in (
        ["--version"],
        ["doctor"],
        ["inspect", shipped.bundle],
        ["parity", shipped.bundle, "--junit", "parity.xml", "--html", "parity.html"],
        ["calibrate", model, "--data", shipped.images, "-o", "table"],
        ["quantize", model, "--table", "table", "-o", "mine.onnx"],
        ["parity", "mine.onnx", "--reference", model, "--data", shipped.images],
        ["profile", model, "--rounds", "2", "--seconds", "0.01"],
        ["cmake-dir"],
        ["example", "digits"],
    ):
        run("env/bin/linglos-deploy", *command, cwd=tmp_path)
    assert (tmp_path / "digits" / "linglo_digits.safetensors").is_file()


def test_the_guide_runs_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "env", cwd=tmp_path)
    extras = f"{wheel}[export,examples,tensorrt-rtx]"
    run("env/bin/pip", "install", "-q", "-c", ROOT / "constraints.txt", extras, cwd=tmp_path)
    page = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    path = f"{tmp_path / 'env' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    (tmp_path / "work").mkdir()
    for code in re.findall(r"```bash\n(.*?)```", page, re.DOTALL):
        run("bash", "-euo", "pipefail", "-c", code, cwd=tmp_path / "work", PATH=path)


@pytest.mark.parametrize("version", PYTHONS)
def test_everything_the_core_needs_has_a_wheel_for_aarch64(version: str, wheel: Path, tmp_path: Path) -> None:
    platforms = [f"--platform=manylinux{tag}_aarch64" for tag in ("2014", "_2_17", "_2_27", "_2_28", "_2_34")]
    run(
        *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--only-binary=:all:"),
        *(f"--python-version={version}", "--implementation=cp", *platforms, "--target", tmp_path / "there", wheel),
        cwd=tmp_path,
    )


def test_schemas_examples_and_sources_are_in_the_wheel(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "schemas_json/parity.schema.json",
        "examples/digits/README.md",
        "cpp/CMakeLists.txt",
        "py.typed",
    ):
        assert f"linglos_deploy/{name}" in names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
