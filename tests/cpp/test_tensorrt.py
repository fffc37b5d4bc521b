"""The TensorRT and TensorRT-RTX backends, as far as a machine without a GPU can test them."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cpp.toolchain import BUILD, SOURCE, build, only_one_build, run

HOW_TO_GET_HEADERS = (
    "unpack include/ of github.com/NVIDIA/TensorRT at a 10.x and an 11.x tag and set TENSORRT_INCLUDE_DIR to both "
    f"folders, separated by '{os.pathsep}'"
)
VARIABLES = {"10": "LINGLOS_TENSORRT_LIBRARY", "11": "LINGLOS_TENSORRT_LIBRARY", "rtx": "LINGLOS_TENSORRT_RTX_LIBRARY"}
CLEAN = {key: value for key, value in os.environ.items() if not key.startswith(("TENSORRT", "LINGLOS"))}


def folders(variable: str) -> list[Path]:
    return [Path(path) for path in os.environ.get(variable, "").split(os.pathsep) if path]


def version(folder: Path) -> tuple[int, int]:
    text = (folder / "NvInferVersion.h").read_text(encoding="utf-8")
    found = dict(re.findall(r"#define (?:TRT|NV_TENSORRT)_(MAJOR|MINOR)(?:_ENTERPRISE|_RTX)? (\d+)", text))
    return int(found["MAJOR"]), int(found["MINOR"])


@pytest.fixture(scope="module")
def headers() -> list[Path]:
    """Folders of headers, of release 10 and of release 11."""
    found = folders("TENSORRT_INCLUDE_DIR")
    if {version(folder)[0] for folder in found} != {10, 11}:
        pytest.skip(f"The headers of TensorRT 10 and 11 are missing; to get them: {HOW_TO_GET_HEADERS}")
    return found


@dataclass(frozen=True, slots=True)
class Build:
    """One build that has both releases, with its fakes of the vendor's libraries."""

    folder: Path

    @property
    def selftest(self) -> Path:
        return self.folder / "tools" / "linglos-selftest"

    def with_fake(self, name: str, **more: str) -> dict[str, str]:
        """Settings that make the fake both the driver and the runtime library."""
        fake = str(self.folder / "tests" / f"liblinglos_fake_{name}.so")
        return {"LINGLOS_CUDA_LIBRARY": fake, VARIABLES[name]: fake, **more}


@pytest.fixture(scope="module")
def both(toolchain: tuple[str, ...], headers: list[Path]) -> Build:
    newest = {version(folder)[0]: folder for folder in sorted(headers, key=version)}
    options = (
        *toolchain,
        "-DCMAKE_BUILD_TYPE=None",
        "-DCMAKE_CXX_FLAGS=-O1 -g1",
        "-DCMAKE_UNITY_BUILD=ON",
        "-DLINGLOS_TESTS=ON",
        "-DLINGLOS_SANITIZE=address,undefined",
        "-DLINGLOS_TENSORRT=ON",
        f"-DTENSORRT_INCLUDE_DIR={newest[10]};{newest[11]}",
    )
    fakes = [f"linglos_fake_{name}" for name in VARIABLES]
    with only_one_build():
        return Build(build("tensorrt", SOURCE, *options, targets=["linglos-tensorrt", "linglos-selftest", *fakes]))


def real_library(package: str, pattern: str) -> str:
    spec = importlib.util.find_spec(package)
    found = sorted(Path(next(iter(spec.submodule_search_locations or []))).glob(pattern)) if spec else []
    if not found:
        pytest.skip(f"{pattern} is missing; get it with: pip install {package.replace('_libs', '-cu13-libs')}")
    return str(found[0])


def real_libraries() -> dict[str, str]:
    return {
        "LINGLOS_TENSORRT_LIBRARY": real_library("tensorrt_lean_libs", "libnvinfer_lean.so.*"),
        "LINGLOS_TENSORRT_RTX_LIBRARY": real_library("tensorrt_rtx_libs", "libtensorrt_rtx.so.*"),
    }


def test_every_release_of_the_headers_compiles_and_agrees_on_the_tables(headers: list[Path], tmp_path: Path) -> None:
    """One object serves all releases of one major number, and that of 11 serves TensorRT-RTX since 1.5."""
    tables: dict[str, set[str]] = {"10": set(), "11": set()}
    own = [f"-I{SOURCE / 'include'}", f"-I{SOURCE / 'src'}", "-isystem", SOURCE / "src" / "cuda_types"]
    for folder in [*headers, *folders("TENSORRT_RTX_INCLUDE_DIR")]:
        major, minor = version(folder)
        if major >= 10:
            flags = ["-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-DLINGLOS_TENSORRT_MAJOR={major}"]
            run(["g++", *flags, *own, "-isystem", folder, SOURCE / "src" / "tensorrt_engine.cpp"])
        elif minor < 5:
            continue
        program = tmp_path / f"slots-{major}.{minor}"
        slots = SOURCE / "tests" / "tensorrt" / "slots.cpp"
        run(["g++", "-std=c++17", "-w", *own, "-isystem", folder, slots, "-o", program])
        tables["10" if major == 10 else "11"].add(run([program]).decode())
    assert [len(found) for found in tables.values()] == [1, 1]
    assert tables["10"] != {""}


def test_the_inline_functions_of_two_releases_are_not_mixed_up(both: Build) -> None:
    symbols = run(["nm", "-C", both.folder / "liblinglos.a"]).decode()
    assert "nvinfer1_of_10::" in symbols
    assert "nvinfer1_of_11::" in symbols
    assert "nvinfer1::" not in symbols


@pytest.mark.parametrize("name", VARIABLES)
def test_the_adapter_runs_plans_of_a_fake_and_survives_every_failing_call(
    name: str, both: Build, bundles: Path
) -> None:
    suppressions = f"suppressions={SOURCE / 'tests' / 'lsan.supp'}"
    program = both.folder / "tests" / "linglos-tensorrt"
    said = run([program, bundles], LSAN_OPTIONS=suppressions, **both.with_fake(name)).decode()
    assert re.search(r"^(\d+) of \1 tests passed$", said, re.MULTILINE), said


def listed(tool: Path, **settings: str) -> dict[str, str]:
    lines = run([tool, "--list-backends"], **settings).decode().splitlines()
    return {line.split()[0].rstrip(":"): line for line in lines}


@pytest.mark.parametrize(
    ("name", "release", "reason"),
    [
        ("11", "12.0.0", "TensorRT 12.0.0 in '.*' cannot be used: this build knows TensorRT 10 and 11"),
        ("10", "9.3.0", "TensorRT 9.3.0 in '.*' cannot be used"),
        ("rtx", "1.4.0", "TensorRT-RTX 1.4.0 in '.*' cannot be used: 1.5 or a later 1.x is needed"),
        ("rtx", "2.0.0", "TensorRT-RTX 2.0.0 in '.*' cannot be used"),
    ],
)
def test_releases_with_other_tables_are_refused_at_load(name: str, release: str, reason: str, both: Build) -> None:
    backend = "tensorrt-rtx" if name == "rtx" else "tensorrt"
    line = listed(both.selftest, **both.with_fake(name, LINGLOS_FAKE_VERSION=release))[backend]
    assert re.search(f"not usable here: {reason}", line), line


def test_later_releases_of_known_tables_and_drivers_that_fail_are_told_apart(both: Build) -> None:
    fake = both.with_fake("rtx", LINGLOS_FAKE_VERSION="1.9.2")
    assert listed(both.selftest, **fake)["tensorrt-rtx"] == (
        "tensorrt-rtx 1.9.2: runs TensorRT-RTX engines on 1 CUDA device(s)"
    )
    none = listed(both.selftest, **fake, LINGLOS_FAKE_DEVICES="0")["tensorrt-rtx"]
    assert none.endswith("no CUDA device: the driver lists none")
    old = listed(both.selftest, **fake, LINGLOS_FAKE_OLD_DRIVER="1")["tensorrt-rtx"]
    assert "no CUDA device: system has unsupported display driver" in old
    away = listed(both.selftest, **{**fake, "LINGLOS_CUDA_LIBRARY": "/nowhere/libcuda.so"})["tensorrt-rtx"]
    assert "the driver cannot be loaded from '/nowhere/libcuda.so', which LINGLOS_CUDA_LIBRARY names" in away


def no_device(line: str, backend: str) -> bool:
    if "not usable here" not in line:
        pytest.skip("this machine has a GPU; what happens without one cannot be tested here")
    return re.match(rf"{backend} \d+\.\d+\.\d+: not usable here: no CUDA device: ", line) is not None


def test_without_a_gpu_the_real_libraries_load_and_report_that_there_is_no_cuda_device(
    both: Build, bundles: Path
) -> None:
    real = real_libraries()
    lines = listed(both.selftest, **real)
    assert no_device(lines["tensorrt"], "tensorrt")
    assert no_device(lines["tensorrt-rtx"], "tensorrt-rtx")
    said = run([both.selftest, bundles / "planned"], **real).decode()
    assert "model.engine: no CUDA device" in said
    assert "rtx.engine: no CUDA device" in said
    assert "passed" in said
    for backend in ("tensorrt", "tensorrt-rtx"):
        only = subprocess.run(
            [both.selftest, bundles / "planned", "--backend", backend],
            capture_output=True,
            text=True,
            check=False,
            env={**CLEAN, **real},
        )
        assert only.returncode == 3, only
        assert "no CUDA device" in only.stderr


def test_a_build_with_headers_of_10_refuses_a_library_of_11_at_load(
    toolchain: tuple[str, ...], headers: list[Path], bundles: Path
) -> None:
    real = real_libraries()
    oldest = min(headers, key=version)
    options = (*toolchain, "-DCMAKE_BUILD_TYPE=None", "-DCMAKE_UNITY_BUILD=ON")
    with only_one_build():
        folder = build(
            "tensorrt-10",
            SOURCE,
            *options,
            "-DLINGLOS_TENSORRT=ON",
            f"-DTENSORRT_INCLUDE_DIR={oldest}",
            targets=["linglos-selftest"],
        )
    tool = folder / "tools" / "linglos-selftest"
    lines = listed(tool, **real)
    assert re.search(r"TensorRT 11\.\d+\.\d+ in '.*' cannot be used: this build knows TensorRT 10\.", lines["tensorrt"])
    assert "configure with headers of release 11" in lines["tensorrt"]
    assert "built without TensorRT-RTX, which needs the headers of TensorRT 11" in lines["tensorrt-rtx"]
    assert b"passed" in run([tool, bundles / "planned"], **real)


@pytest.mark.parametrize("library", ["text", "stranger"])
def test_what_is_no_tensorrt_gives_a_message(library: str, both: Build, bundles: Path, tmp_path: Path) -> None:
    text = tmp_path / "libnvinfer.so.11"
    text.write_text("not a library", encoding="utf-8")
    stranger = BUILD / "main" / "lib" / "libonnxruntime.so.1"
    given = {"text": text, "stranger": stranger if stranger.exists() else both.selftest}[library]
    settings = {name: str(given) for name in set(VARIABLES.values())}
    done = subprocess.run(
        [both.selftest, bundles / "planned"], capture_output=True, text=True, check=False, env={**CLEAN, **settings}
    )
    assert done.returncode == 0, done.stderr  # with ONNX Runtime
    assert "model.engine: " in done.stdout
    assert "cannot be loaded from" in done.stdout or "has no function getInferLibMajorVersion" in done.stdout


def configure(tmp_path: Path, folder: str) -> subprocess.CompletedProcess[str]:
    options = [f"-DTENSORRT_INCLUDE_DIR={folder}", "-DCMAKE_FIND_ROOT_PATH=/nonexistent"]
    generate = ["cmake", "-G", "Ninja", "-S", SOURCE, "-B", tmp_path / "build"]
    command = [*generate, "-DLINGLOS_ONNXRUNTIME=OFF", "-DLINGLOS_TENSORRT=ON", *options]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, env=CLEAN)


def test_missing_headers_are_reported_with_the_way_to_get_them(toolchain: tuple[str, ...], tmp_path: Path) -> None:
    done = configure(tmp_path, "TENSORRT_INCLUDE_DIR-NOTFOUND")
    if done.returncode == 0:
        pytest.skip("TensorRT is installed on this machine")
    assert "Set TENSORRT_INCLUDE_DIR to include/ of github.com/NVIDIA/TensorRT" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("#define TRT_MAJOR_RTX 1", "has the headers of TensorRT-RTX"),
        ("#define TRT_MAJOR_ENTERPRISE 12", "has the headers of another TensorRT than 10 or 11"),
    ],
)
def test_headers_of_other_products_and_releases_are_refused(
    line: str, message: str, toolchain: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "NvInferVersion.h").write_text(f"{line}\n", encoding="utf-8")
    done = configure(tmp_path, str(tmp_path))
    assert done.returncode
    assert message in " ".join(done.stderr.split())
