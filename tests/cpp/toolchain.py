"""What building the C++ side needs, where it is, and how to get what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "cpp"
BUILD = ROOT / "build" / "cpp"
REQUIRE = ("LINGLOS_REQUIRE_CPP", "CI")
"""With one of these variables set, a missing tool fails the tests instead of skipping them."""

APT = "apt-get install --no-install-recommends"
PROGRAMS = {
    "cmake": "cmake",
    "ninja": "ninja-build",
    "g++": "g++",
    "pkg-config": "pkg-config",
    "clang++": "clang libclang-rt-14-dev (or the libclang-rt of your clang)",
}
HEADERS = {
    "openssl/evp.h": "libssl-dev",
    "nlohmann/json.hpp": "nlohmann-json3-dev",
    "stb/stb_image.h": "libstb-dev",
}


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that is not on this machine.

    Attributes:
        what: A program, a header or a library.
        how_to_get: The command or the setting that brings it.
    """

    what: str
    how_to_get: str


def missing_programs(names: Sequence[str], path: str | None = None) -> list[Missing]:
    """Return those of ``names`` that are not on the search path."""
    return [Missing(name, f"{APT} {PROGRAMS[name]}") for name in names if find_program(name, path) is None]


def find_program(name: str, path: str | None = None) -> str | None:
    """Return a program's path; clang may carry its version in its name."""
    versions = ("", *(f"-{number}" for number in range(21, 13, -1))) if name == "clang++" else ("",)
    return next((found for version in versions if (found := shutil.which(name + version, path=path))), None)


def missing_headers(names: Sequence[str]) -> list[Missing]:
    """Return those of ``names`` that the compiler does not find."""
    return [Missing(name, f"{APT} {HEADERS[name]}") for name in names if not _compiles(f"#include <{name}>\n")]


def _compiles(source: str) -> bool:
    command = ["g++", "-std=c++17", "-E", "-x", "c++", "-", "-o", os.devnull]
    return subprocess.run(command, input=source.encode(), capture_output=True, check=False).returncode == 0


def require(missing: Sequence[Missing], environment: Mapping[str, str] = os.environ) -> None:
    """Skip the test, or fail it where the C++ side must be tested, unless nothing is missing."""
    if not missing:
        return
    text = "; ".join(f"{item.what} is missing, get it with: {item.how_to_get}" for item in missing)
    if any(environment.get(name) not in (None, "", "0", "false") for name in REQUIRE):
        pytest.fail(f"The C++ side cannot be tested: {text}", pytrace=False)
    pytest.skip(text)


def onnxruntime_headers() -> Path:
    """Return the folder of onnxruntime_c_api.h, fetched if need be."""
    if given := os.environ.get("ONNXRUNTIME_INCLUDE_DIR"):
        return Path(given)
    folder = BUILD / "onnxruntime-headers"
    script = SOURCE / "scripts" / "fetch_onnxruntime_headers.sh"
    fetched = subprocess.run(["sh", str(script), str(folder)], capture_output=True, text=True, check=False)
    if fetched.returncode:
        how = f"run cpp/scripts/fetch_onnxruntime_headers.sh, or set ONNXRUNTIME_INCLUDE_DIR ({fetched.stderr[-300:]})"
        require([Missing("onnxruntime_c_api.h", how)])
    return folder


@contextmanager
def only_one_build() -> Iterator[None]:
    """Keep other test processes out of the build folders."""
    import fcntl

    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(command: Sequence[str | Path], *, input: bytes | None = None, code: int = 0, **environment: str) -> bytes:  # noqa: A002
    """Run a command and return its standard output; any other exit code fails the test with all that it said."""
    done = subprocess.run(
        [str(word) for word in command],
        input=input,
        capture_output=True,
        env={**os.environ, **environment},
        check=False,
        timeout=900,
    )
    if done.returncode != code:
        said = (done.stdout[-3000:] + b"\n" + done.stderr[-6000:]).decode(errors="replace")
        pytest.fail(
            f"{' '.join(map(str, command[:4]))} … ended with {done.returncode}, not {code}:\n{said}", pytrace=False
        )
    return done.stdout


def build(name: str, source: Path, *options: str, targets: Sequence[str] = ()) -> Path:
    """Configure and build a project; return its build folder, which the next run of the tests takes up again."""
    folder = BUILD / name
    run(["cmake", "-G", "Ninja", "-S", source, "-B", folder, f"-DLINGLOS_PYTHON={sys.executable}", *options])
    run(["cmake", "--build", folder, *(["--target", *targets] if targets else [])])
    return folder
