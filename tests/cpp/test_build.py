from __future__ import annotations

import re
import struct
import tarfile
from pathlib import Path

import pytest

from linglos_deploy import __version__, shipped
from linglos_deploy.errors import MissingDependencyError
from linglos_deploy.shipped import cmake_dir
from tests.cpp.conftest import Installed
from tests.cpp.toolchain import BUILD, ROOT, SOURCE, build, missing_programs, only_one_build, require, run


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


def test_a_program_without_exceptions_gets_every_error_as_a_value(installed: Installed, bundles: Path) -> None:
    said = run([installed.consumer / "no_exceptions", bundles / "digits"]).decode()
    assert said.startswith("passed: preprocessing and outputs")


def test_pkg_config_tells_all_that_a_compiler_needs(installed: Installed, bundles: Path, tmp_path: Path) -> None:
    require(missing_programs(["pkg-config"]))
    settings = {"PKG_CONFIG_PATH": str(installed.prefix / "lib" / "pkgconfig")}
    flags = run(["pkg-config", "--cflags", "--libs", "linglos"], **settings).decode().split()
    assert run(["pkg-config", "--modversion", "linglos"], **settings).decode().strip() == __version__
    program = tmp_path / "program"
    run(["g++", "-std=c++17", SOURCE / "examples" / "minimal" / "main.cpp", "-o", program, *flags])
    assert b"passed: preprocessing and outputs" in run([program, bundles / "digits"])


def test_an_archive_runs_where_it_is_unpacked_and_brings_the_licences(
    installed: Installed, bundles: Path, tmp_path: Path
) -> None:
    run(["cpack", "--config", BUILD / "main" / "CPackConfig.cmake", "-B", tmp_path])
    (archive,) = tmp_path.glob("linglos-*-linux-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "elsewhere", filter="data")
    (root,) = (tmp_path / "elsewhere").iterdir()
    said = run([root / "bin" / "linglos-selftest", bundles / "digits"], LD_LIBRARY_PATH="")
    assert b"passed: preprocessing and outputs" in said
    notices = root / "share" / "doc" / "linglos"
    named = set(re.findall(r"`([\w.-]+\.txt|LICENSE)`", (notices / "NOTICES.md").read_text(encoding="utf-8")))
    assert {path.name for path in notices.iterdir()} == named | {"NOTICES.md"}
    assert "MIT License" in (notices / "onnxruntime.txt").read_text(encoding="utf-8")


def test_versions_agree() -> None:
    lists = (SOURCE / "CMakeLists.txt").read_text(encoding="utf-8")
    header = (SOURCE / "include" / "linglos" / "version.hpp").read_text(encoding="utf-8")
    package = (SOURCE / "cmake" / "package" / "linglosConfigVersion.cmake").read_text(encoding="utf-8")
    assert f"project(linglos VERSION {__version__} " in lists
    assert f'LINGLOS_VERSION "{__version__}"' in header
    assert f"set(PACKAGE_VERSION {__version__})" in package


def test_every_source_is_in_the_wheel() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for name in ("CMakeLists.txt", "NOTICES.md", "cmake", "include", "src", "tools", "examples", "scripts"):
        assert f'"cpp/{name}" = "linglos_deploy/cpp/{name}"' in project


def test_the_cmake_folder_of_an_installation_without_sources_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "__file__", str(tmp_path / "linglos_deploy" / "shipped.py"))
    with pytest.raises(MissingDependencyError, match="no C\\+\\+ sources"):
        cmake_dir()
