"""The library on 64-bit ARM: cross-compiled, and run under qemu with ARM's own ONNX Runtime."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from linglos_deploy.bundle import open_bundle
from tests.cpp.test_consumer import FILTERS, preprocessing_cases, python_outputs, with_size
from tests.cpp.toolchain import (
    APT,
    BUILD,
    ROOT,
    SOURCE,
    Missing,
    build,
    missing_programs,
    only_one_build,
    onnxruntime_headers,
    require,
)
from tests.cpp.toolchain import run as run_here

TOOLCHAIN = SOURCE / "cmake" / "toolchains" / "aarch64-linux-gnu.cmake"
PACKAGES = {"aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu", "qemu-aarch64": "qemu-user"}
IMAGES = 500
PARTS = 5  # an emulated machine takes its time, and each call of it has a limit
PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64")

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class Arm:
    """Programs of the other machine, and how to run them here.

    Attributes:
        root: What stands for that machine's file system.
        folder: Build folder of the library.
        consumer: Build folder of a project that uses the installed library.
        onnxruntime: ONNX Runtime's library.
    """

    root: Path
    folder: Path
    consumer: Path
    onnxruntime: Path

    def run(self, program: Path, *arguments: str | Path, input: bytes | None = None) -> bytes:  # noqa: A002
        command: Sequence[str | Path] = ["qemu-aarch64", "-L", self.root, program, *arguments]
        return run_here(command, input=input, LINGLOS_ONNXRUNTIME_LIBRARY=str(self.onnxruntime))


@pytest.fixture(scope="module")
def arm() -> Arm:
    require(missing_programs(["cmake", "ninja"]))
    for program, package in PACKAGES.items():
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing, get it with: {APT} {package}")
    root = BUILD / "aarch64-root"
    prefix = BUILD / "aarch64-prefix"
    toolchain = (f"-DCMAKE_TOOLCHAIN_FILE={TOOLCHAIN}", f"-DLINGLOS_AARCH64_ROOT={root}", "-DCMAKE_BUILD_TYPE=Release")
    with only_one_build():
        make = SOURCE / "scripts" / "make_aarch64_root.sh"
        made = subprocess.run(["sh", str(make), str(root)], capture_output=True, text=True, check=False)
        if made.returncode:
            require([Missing("what ARM programs are linked with", f"cpp/scripts/make_aarch64_root.sh ({made.stderr})")])
        library = onnxruntime_of_arm(BUILD / "aarch64-onnxruntime")
        headers = f"-DONNXRUNTIME_INCLUDE_DIR={onnxruntime_headers()}"
        install = (f"-DCMAKE_INSTALL_PREFIX={prefix}", "-DCMAKE_INSTALL_LIBDIR=lib")
        folder = build("aarch64", SOURCE, *toolchain, headers, *install, "-DLINGLOS_TESTS=ON")
        run_here(["cmake", "--build", folder, "--target", "linglos-unit"])
        run_here(["cmake", "--install", folder])
        found = f"-Dlinglos_DIR={prefix}/lib/cmake/linglos"
        consumer = build("aarch64-consumer", SOURCE / "tests" / "consumer", *toolchain, found)
    return Arm(root, folder, consumer, library)


def onnxruntime_of_arm(folder: Path) -> Path:
    """Take the library of this Python's release out of ARM's wheel."""
    if found := next(folder.rglob(f"libonnxruntime.so.{onnxruntime.__version__}"), None):
        return found
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    release = f"onnxruntime=={onnxruntime.__version__}"
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", *platforms]
    done = subprocess.run([*pip, "-d", str(folder), release], capture_output=True, text=True, check=False)
    wheels = list(folder.glob(f"onnxruntime-{onnxruntime.__version__}-*.whl"))
    if done.returncode or not wheels:
        pytest.skip(f"no aarch64 wheel of {release}, get it with: pip download --platform {PLATFORMS[-1]} {release}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        name = next(name for name in wheel.namelist() if "/libonnxruntime.so" in name)
        return Path(wheel.extract(name, folder))


@pytest.mark.parametrize("program", ["linglos-unit", "linglos-allocations"])
def test_the_units_pass_on_arm(program: str, arm: Arm, bundles: Path) -> None:
    said = arm.run(arm.folder / "tests" / program, bundles).decode()
    assert re.search(r"^(\d+) of \1 tests passed$", said, re.MULTILINE), said


@pytest.mark.parametrize("name", ["digits", "pixels", "features", "fixed"])
def test_a_bundle_tests_itself_on_arm(name: str, arm: Arm, bundles: Path) -> None:
    tool = arm.folder / "tools" / "linglos-selftest"
    assert b"passed: preprocessing and outputs" in arm.run(tool, bundles / name)


@pytest.mark.parametrize("part", range(PARTS))
def test_preprocessing_on_arm_is_pythons_to_the_bit(part: int, arm: Arm) -> None:
    cases, expected = preprocessing_cases(IMAGES // PARTS, seed=part)
    found = np.frombuffer(arm.run(arm.consumer / "consumer", "preprocess", input=cases), np.float32)
    values = np.concatenate(expected)
    assert found.shape == values.shape
    differing = np.count_nonzero(found.view(np.uint32) != values.view(np.uint32))
    print(f"{differing} of {values.size} values of {IMAGES // PARTS} images and {len(FILTERS)} filters differ")
    assert differing == 0


def held_out() -> list[np.ndarray]:
    spec = importlib.util.spec_from_file_location("digits", ROOT / "examples" / "digits" / "digits.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return [np.asarray(image) for image in module.load_split()[1].images]


def test_the_held_out_images_are_classified_as_here(arm: Arm, bundles: Path) -> None:
    images = held_out()
    manifest = open_bundle(bundles / "digits").manifest
    assert manifest.golden is not None
    share = manifest.golden.max_abs[manifest.graphs[0].file]
    sent = b"".join(map(with_size, images))
    found = np.frombuffer(arm.run(arm.consumer / "consumer", "run", bundles / "digits", input=sent), np.float32)
    expected = np.concatenate(list(python_outputs(bundles / "digits", images))).reshape(len(images), -1)
    logits = found.reshape(expected.shape)
    difference, limit = float(np.abs(logits - expected).max()), share * float(np.abs(expected).max())
    same = int(np.count_nonzero(logits.argmax(axis=1) == expected.argmax(axis=1)))
    print(f"{same} of {len(images)} top-1 agree; logits differ by up to {difference:.3g}, accepted are {limit:.3g}")
    assert same == len(images)
    assert difference <= limit
