from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from linglos_deploy import __version__, shipped
from linglos_deploy.errors import MissingDependencyError
from linglos_deploy.shipped import cmake_dir
from tests.cpp.conftest import Installed
from tests.cpp.toolchain import BUILD, ROOT, SOURCE, build, only_one_build, run


def test_an_installed_package_has_headers_tools_and_its_own_onnx_runtime(installed: Installed) -> None:
    for name in ("include/linglos.h", "include/linglos/linglos.hpp", "lib/liblinglos.a", "lib/libonnxruntime.so.1"):
        assert (installed.prefix / name).is_file()
    listed = run([installed.tool("linglos-selftest"), "--list-backends"], LD_LIBRARY_PATH="")
    onnxruntime, openvino = listed.decode().splitlines()
    assert re.fullmatch(r"onnxruntime \d+\.\d+\.\d+: runs ONNX graphs on cpu", onnxruntime)
    assert openvino.startswith(
        "openvino: not usable here: OpenVINO is not installed: libopenvino_c.so is neither beside"
    )


def test_public_headers_name_no_vendor() -> None:
    for header in (SOURCE / "include").rglob("*.h*"):
        included = re.findall(r'#include [<"](.+?)[>"]', header.read_text(encoding="utf-8"))
        assert not [name for name in included if re.search("onnx|Nv|cuda|nlohmann|openssl", name)], header


def test_the_sources_in_the_wheel_build_a_shared_library_and_the_examples(
    toolchain: tuple[str, ...], bundles: Path
) -> None:
    options = (*toolchain, f"-Dlinglos_DIR={cmake_dir()}", "-DBUILD_SHARED_LIBS=ON", "-DCMAKE_UNITY_BUILD=ON")
    project = BUILD / "examples-source"
    project.mkdir(parents=True, exist_ok=True)
    lists = (
        "cmake_minimum_required(VERSION 3.22)\nproject(everything LANGUAGES CXX)\n"
        "find_package(linglos 0.1 CONFIG REQUIRED)\n"
        f"add_subdirectory({SOURCE}/examples/minimal minimal)\n"
        f"add_subdirectory({SOURCE}/examples/video_loop video_loop)\n"
    )
    if not (project / "CMakeLists.txt").is_file() or (project / "CMakeLists.txt").read_text() != lists:
        (project / "CMakeLists.txt").write_text(lists)
    with only_one_build():
        folder = build("examples", project, *options)
    (library,) = folder.rglob("liblinglos.so")
    check_old_program(library.parent, bundles / "digits")
    said = run([folder / "minimal" / "linglos-minimal", bundles / "digits"]).decode()
    assert "passed: preprocessing and outputs" in said
    assert len(said.splitlines()) == 5
    frames = bytes(range(256)) * 3 * 7
    answers = run([folder / "video_loop" / "linglos-video-loop", bundles / "digits", "16", "16"], input=frames)
    assert [line.split()[0] for line in answers.decode().splitlines()] == [str(number) for number in range(7)]


def check_old_program(folder: Path, bundle: Path) -> None:
    """Compile the C consumer against the first release's header, and run it with today's library."""
    program = BUILD / "consumer_0_1"
    first = SOURCE / "tests" / "abi" / "0.1.0"
    consumer = SOURCE / "tests" / "consumer" / "consumer_c.c"
    headers = ("-I", first, "-I", SOURCE / "include", "-L", folder)
    run(
        [
            "gcc",
            "-Wall",
            "-Werror",
            *headers,
            consumer,
            "-o",
            program,
            "-L",
            folder,
            "-llinglos",
            f"-Wl,-rpath,{folder}",
        ]
    )
    image = struct.pack("<2i", 4, 4) + bytes(48)
    assert len(run([program, bundle], input=image)) == 10 * 4
    exported = run(["nm", "-D", "--defined-only", folder / "liblinglos.so"]).decode()
    promised = re.findall(r"\b(linglos_\w+)\(", (first / "linglos.h").read_text(encoding="utf-8"))
    assert len(set(promised)) > 15
    assert not [name for name in set(promised) if f" T {name}\n" not in exported]


def test_versions_agree() -> None:
    lists = (SOURCE / "CMakeLists.txt").read_text(encoding="utf-8")
    header = (SOURCE / "include" / "linglos" / "version.hpp").read_text(encoding="utf-8")
    package = (SOURCE / "cmake" / "package" / "linglosConfigVersion.cmake").read_text(encoding="utf-8")
    assert f"project(linglos VERSION {__version__} " in lists
    assert f'LINGLOS_VERSION "{__version__}"' in header
    assert f"set(PACKAGE_VERSION {__version__})" in package


def test_every_source_is_in_the_wheel() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for name in ("CMakeLists.txt", "cmake", "include", "src", "tools", "examples", "scripts"):
        assert f'"cpp/{name}" = "linglos_deploy/cpp/{name}"' in project


def test_the_cmake_folder_of_an_installation_without_sources_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "__file__", str(tmp_path / "linglos_deploy" / "shipped.py"))
    with pytest.raises(MissingDependencyError, match="no C\\+\\+ sources"):
        cmake_dir()
