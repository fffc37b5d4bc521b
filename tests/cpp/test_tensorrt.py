"""The TensorRT backend, as far as a machine without a GPU can test it."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.cpp.toolchain import SOURCE, build, only_one_build, run

HEADERS = [Path(path) for path in os.environ.get("TENSORRT_INCLUDE_DIR", "").split(os.pathsep) if path]
HOW_TO_GET_HEADERS = (
    "unpack include/ of github.com/NVIDIA/TensorRT at a 10.x and an 11.x tag and set TENSORRT_INCLUDE_DIR to both "
    f"folders, separated by '{os.pathsep}'"
)


def headers() -> list[Path]:
    if not HEADERS:
        pytest.skip(f"The headers of TensorRT are missing; to get them: {HOW_TO_GET_HEADERS}")
    return HEADERS


def cuda() -> None:
    if not any(Path(path, "bin", "nvcc").is_file() for path in ("/usr/local/cuda", os.environ.get("CUDA_PATH", ""))):
        pytest.skip("The CUDA toolkit is missing; get it from your distribution, or set CUDA_PATH")


def lean_library() -> Path:
    if given := os.environ.get("TENSORRT_LIBRARY"):
        return Path(given)
    spec = importlib.util.find_spec("tensorrt_lean_libs")
    found = sorted(Path(next(iter(spec.submodule_search_locations or []))).glob("libnvinfer_lean.so.*")) if spec else []
    if not found:
        pytest.skip("libnvinfer_lean is missing; get it with: pip install tensorrt-lean-cu13-libs")
    return found[0]


def version(folder: Path) -> tuple[int, int]:
    text = (folder / "NvInferVersion.h").read_text()
    found = dict(re.findall(r"#define (?:TRT|NV_TENSORRT)_(MAJOR|MINOR)(?:_ENTERPRISE)? (\d+)", text))
    return int(found["MAJOR"]), int(found["MINOR"])


def test_the_adapter_compiles_against_every_release_of_the_headers(toolchain: tuple[str, ...]) -> None:
    cuda()
    for folder in headers():
        flags = ["-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-DLINGLOS_HAS_TENSORRT=1"]
        own = [f"-I{SOURCE / 'include'}", f"-I{SOURCE / 'src'}"]
        theirs = ["-isystem", folder, "-isystem", "/usr/local/cuda/include"]
        run(["g++", *flags, *own, *theirs, SOURCE / "src" / "tensorrt.cpp"])
    majors = {version(folder)[0] for folder in headers()}
    if majors != {10, 11}:
        pytest.skip(f"only headers of TensorRT {sorted(majors)} are here, not of 10 and 11; {HOW_TO_GET_HEADERS}")


def test_without_a_gpu_it_links_runs_and_reports_that_there_is_no_cuda_device(
    toolchain: tuple[str, ...], bundles: Path
) -> None:
    cuda()
    newest = max(headers(), key=version)
    library = lean_library()
    options = (
        *toolchain,
        "-DCMAKE_BUILD_TYPE=None",
        "-DCMAKE_UNITY_BUILD=ON",
        "-DLINGLOS_TENSORRT=ON",
        f"-DTENSORRT_LIBRARY={library}",
    )
    with only_one_build():
        folder = build("tensorrt", SOURCE, *options, f"-DTENSORRT_INCLUDE_DIR={newest}")
    tool = folder / "tools" / "linglos-selftest"
    listed = run([tool, "--list-backends"]).decode()
    if "not usable here" not in listed:
        pytest.skip("this machine has a GPU; what happens without one cannot be tested here")
    assert re.search(r"^tensorrt \d+\.\d+\.\d+: not usable here: no CUDA device: ", listed, re.MULTILINE)
    said = run([tool, bundles / "engine"]).decode()
    assert "model.engine: no CUDA device" in said
    assert "passed" in said
    only = subprocess.run(
        [tool, bundles / "engine", "--backend", "tensorrt"], capture_output=True, text=True, check=False
    )
    assert only.returncode == 3
    assert "no CUDA device" in only.stderr


def test_missing_headers_are_reported_with_the_way_to_get_them(toolchain: tuple[str, ...], tmp_path: Path) -> None:
    command = [
        "cmake",
        "-G",
        "Ninja",
        "-S",
        SOURCE,
        "-B",
        tmp_path,
        "-DLINGLOS_ONNXRUNTIME=OFF",
        "-DLINGLOS_TENSORRT=ON",
    ]
    done = subprocess.run(
        [
            *map(str, command),
            "-DTENSORRT_INCLUDE_DIR=TENSORRT_INCLUDE_DIR-NOTFOUND",
            "-DCMAKE_FIND_ROOT_PATH=/nonexistent",
        ],
        capture_output=True,
        text=True,
        check=False,
        env={key: value for key, value in os.environ.items() if not key.startswith("TENSORRT")},
    )
    if done.returncode == 0:
        pytest.skip("TensorRT is installed on this machine")
    assert "Set TENSORRT_ROOT" in " ".join(done.stderr.split())
