from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.bundles.tamper import Case, load_cases, tamper
from tests.cpp.conftest import Installed
from tests.cpp.toolchain import run

CASES = load_cases()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_cpp_refuses_a_bundle_with(case: Case, installed: Installed, bundles: Path, tmp_path: Path) -> None:
    shutil.copytree(bundles / "digits", tmp_path / "bundle")
    tool = installed.tool("linglos-selftest")
    run([tool, "--check-only", tmp_path / "bundle"])
    tamper(tmp_path / "bundle", case)
    done = subprocess.run([tool, tmp_path / "bundle"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 4
    assert case.says in done.stderr
