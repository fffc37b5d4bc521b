"""Tests of the tests: each fault of ``mutations.py``, put into a copy of the package, must be noticed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends.trt.mutations import MUTATIONS, Mutation

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "linglos_deploy"


def named(mutation: Mutation) -> str:
    return re.sub(r"[^a-zA-Z0-9]+", "-", mutation.what)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=named)
def test_every_fault_has_its_place_in_the_code_and_its_test(mutation: Mutation) -> None:
    text = (PACKAGE / mutation.file).read_text(encoding="utf-8")
    assert text.count(mutation.old) == 1, f"the text of '{mutation.what}' is not there once"
    assert mutation.old != mutation.new
    file, _, function = mutation.test.partition("::")
    assert f"def {function}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")


def test_there_are_faults_of_every_part() -> None:
    assert len(MUTATIONS) >= 25
    assert len({mutation.what for mutation in MUTATIONS}) == len(MUTATIONS)
    parts = {"runner", "cuda", "parse", "configure", "cache", "preflight", "precision", "profiles"}
    assert parts <= {Path(mutation.file).stem for mutation in MUTATIONS}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the package and its tests, and see that every named test passes there as it is."""
    folder = tmp_path_factory.mktemp("mutants")
    shutil.copytree(PACKAGE, folder / "linglos_deploy", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copy(ROOT / "pyproject.toml", folder)
    done = run_tests(folder, *dict.fromkeys(mutation.test for mutation in MUTATIONS))
    assert done.returncode == 0, done.stdout[-3000:]
    return folder


@pytest.fixture
def mutant(copy: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    mutation: Mutation = request.param
    file = copy / "linglos_deploy" / mutation.file
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    yield copy
    file.write_text(text, encoding="utf-8")


def run_tests(folder: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests of a copy in a process of its own; a fault may well end that process."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "LINGLOS_DEBUG": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist"]
    return subprocess.run(
        [*command, *(f"tests/{test}" for test in tests)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
@pytest.mark.xdist_group("mutants")
@pytest.mark.parametrize(
    ("mutant", "mutation"), [(it, it) for it in MUTATIONS], ids=map(named, MUTATIONS), indirect=["mutant"]
)
def test_a_fault_is_noticed_by_its_test(rtx: object, mutant: Path, mutation: Mutation) -> None:
    done = run_tests(mutant, mutation.test)
    assert done.returncode != 0, f"nobody noticed that {mutation.what}\n{done.stdout[-2000:]}"
    assert done.returncode in {1, -11, -6}, f"the tests did not run: {done.stdout[-2000:]}{done.stderr[-2000:]}"
