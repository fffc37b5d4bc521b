from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cpp.conftest import Installed
from tests.cpp.toolchain import BUILD, SOURCE, build, find_program, missing_programs, only_one_build, require, run

TESTS = SOURCE / "tests"
QUICK = ("-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O1 -g1", "-DCMAKE_UNITY_BUILD=ON")
FUZZ_SECONDS = 8


@pytest.mark.parametrize(
    ("name", "sanitizers", "environment"),
    [
        ("asan", "address,undefined", {"LSAN_OPTIONS": f"suppressions={TESTS / 'lsan.supp'}"}),
        ("tsan", "thread", {"TSAN_OPTIONS": f"suppressions={TESTS / 'tsan.supp'}"}),
    ],
)
def test_units_are_clean_under_the_sanitizers(
    name: str, sanitizers: str, environment: dict[str, str], toolchain: tuple[str, ...], bundles: Path
) -> None:
    options = (*toolchain, *QUICK, "-DLINGLOS_TOOLS=OFF", "-DLINGLOS_TESTS=ON", f"-DLINGLOS_SANITIZE={sanitizers}")
    programs = ["linglos-unit"] if name == "tsan" else ["linglos-unit", "linglos-faults"]
    with only_one_build():
        folder = build(name, SOURCE, *options, targets=programs)
    for program in programs:
        said = run([folder / "tests" / program, bundles], **environment).decode()
        assert re.search(r"^(\d+) of \1 tests passed$", said, re.MULTILINE), said


def test_a_run_allocates_nothing_on_our_side_after_warm_up(installed: Installed, bundles: Path) -> None:
    said = run([BUILD / "main" / "tests" / "linglos-allocations", bundles]).decode()
    assert said == "2 of 2 tests passed\n"


@pytest.mark.parametrize("target", ["manifest", "image"])
def test_fuzzing_finds_nothing_in_a_bounded_time(target: str, toolchain: tuple[str, ...], tmp_path: Path) -> None:
    require(missing_programs(["clang++"]))
    clang = f"-DCMAKE_CXX_COMPILER={find_program('clang++')}"
    sanitizers = "-DLINGLOS_SANITIZE=fuzzer-no-link,address,undefined"
    options = (*toolchain, *QUICK, clang, sanitizers, "-DLINGLOS_FUZZERS=ON", "-DLINGLOS_ONNXRUNTIME=OFF")
    with only_one_build():
        folder = build("fuzz", SOURCE, *options, targets=["fuzz-manifest", "fuzz-image"])
    found, corpus = tmp_path / "found", SOURCE / "fuzz" / "corpus" / target
    found.mkdir()
    # libFuzzer reads a peak RSS that starts with that of the process which started it: limit single allocations
    memory = ["-rss_limit_mb=0", "-malloc_limit_mb=1024"]
    limits = [f"-max_total_time={FUZZ_SECONDS}", "-max_len=4096", "-seed=1", f"-artifact_prefix={tmp_path}/", *memory]
    run([folder / "fuzz" / f"fuzz-{target}", *limits, found, corpus])
    assert any(found.iterdir())  # it did reach new code
