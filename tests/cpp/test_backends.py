from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.cpp.conftest import Installed
from tests.cpp.toolchain import BUILD, run

RELEASES = ("1.20.1", "1.21.1", "1.24.1")
TOO_OLD = "1.19.2"


def openvino_library() -> Path:
    spec = importlib.util.find_spec("openvino")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("OpenVINO is missing, get it with: pip install openvino")
    return next(Path(spec.submodule_search_locations[0]).glob("libs/libopenvino_c.so*"))


def onnxruntime_library(release: str, folder: Path) -> Path:
    """Take the library out of a release's wheel; skip where no package index answers."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", folder]
    done = subprocess.run([*command, f"onnxruntime=={release}"], capture_output=True, text=True, check=False)
    wheels = list(folder.glob(f"onnxruntime-{release}-*.whl"))
    if done.returncode or not wheels:
        pytest.skip(f"no wheel of onnxruntime {release} for this Python, get it with: pip download {command[-1]}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        name = next(name for name in wheel.namelist() if "/libonnxruntime.so" in name)
        return Path(wheel.extract(name, folder))


def test_openvino_answers_as_onnx_runtime_does(installed: Installed, bundles: Path) -> None:
    program = BUILD / "main" / "tests" / "linglos-backends"
    library = str(openvino_library())
    assert run([program, bundles], LINGLOS_OPENVINO_LIBRARY=library) == b"2 of 2 tests passed\n"
    listed = run([installed.tool("linglos-selftest"), "--list-backends"], LINGLOS_OPENVINO_LIBRARY=library).decode()
    assert re.search(r"^openvino \d{4}\.\d+\.\d+: runs ONNX graphs on cpu", listed, re.MULTILINE)


def test_a_machine_without_onnx_runtime_runs_on_openvino_and_says_so(installed: Installed, bundles: Path) -> None:
    absent = {"LINGLOS_ONNXRUNTIME_LIBRARY": "/nowhere/libonnxruntime.so"}
    tool = [installed.tool("linglos-selftest"), bundles / "digits"]
    said = run(tool, LINGLOS_OPENVINO_LIBRARY=str(openvino_library()), **absent).decode()
    assert "with OpenVINO on cpu: ONNX Runtime cannot be loaded from '/nowhere/libonnxruntime.so'" in said


def test_libraries_that_are_missing_or_wrong_give_messages(installed: Installed, bundles: Path, tmp_path: Path) -> None:
    text = tmp_path / "libonnxruntime.so.1"
    text.write_text("not a library")
    stranger = next(Path("/").glob("lib/*/libcrypto.so.3"), None) or next(Path("/").glob("usr/lib/*/libcrypto.so.3"))
    for library, reason in ((text, "cannot be loaded"), (stranger, "has no function OrtGetApiBase")):
        settings = {"LINGLOS_ONNXRUNTIME_LIBRARY": str(library), "LINGLOS_OPENVINO_LIBRARY": str(library)}
        tool = installed.tool("linglos-selftest")
        done = subprocess.run([tool, bundles / "digits"], env=settings, capture_output=True, text=True, check=False)
        assert done.returncode == 4, done
        assert reason in done.stderr
        assert "OpenVINO" in done.stderr


@pytest.mark.slow
def test_one_build_runs_with_every_release_of_onnx_runtime(installed: Installed, bundles: Path, tmp_path: Path) -> None:
    tool = [installed.tool("linglos-selftest"), bundles / "digits", "--backend", "onnxruntime"]
    for release in RELEASES:
        library = str(onnxruntime_library(release, tmp_path))
        assert b"passed" in run(tool, LINGLOS_ONNXRUNTIME_LIBRARY=library)
        listed = run([tool[0], "--list-backends"], LINGLOS_ONNXRUNTIME_LIBRARY=library).decode()
        assert f"onnxruntime {release}: runs ONNX graphs on cpu" in listed
    old = {"LINGLOS_ONNXRUNTIME_LIBRARY": str(onnxruntime_library(TOO_OLD, tmp_path))}
    listed = run([tool[0], "--list-backends"], **old).decode()
    assert f"ONNX Runtime {TOO_OLD} in" in listed
    assert "is too old: 1.20 or later is needed" in listed
