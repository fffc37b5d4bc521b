"""The contributor's page keeps its word: each example is one source file and one test, and needs both."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.commandline import snapshot

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "contributing.md"
BLOCK = re.compile(
    r"^`(?P<path>[\w/]+\.py)`[^\n]*:\n\n```(?P<kind>python|diff)\n(?P<text>.*?)```$", re.DOTALL | re.MULTILINE
)

WITHOUT = {
    "A command": "No such command 'weigh'",
    "A threshold method": "There is no threshold method 'sigmas'",
    "A quantized operator": "assert () == ('x',)",
    "A compiler": "There is no engine 'ort-offline'",
    "A decomposition": "There is no decomposition 'gated'",
}
"""Section of the page -> why its test fails where its source is missing."""


@dataclass(frozen=True, slots=True)
class Change:
    """One block of the page.

    Attributes:
        path: The file, seen from the root of the repository.
        kind: ``python`` for a whole new file, ``diff`` for lines of one that is there.
        text: The block.
    """

    path: str
    kind: str
    text: str

    def apply(self, root: Path) -> None:
        """Make the file, or replace the lines."""
        path = root / self.path
        if self.kind == "python":
            assert not path.exists(), f"{self.path} is there already"
            path.write_text(self.text)
            return
        lines = self.text.splitlines(keepends=True)
        before, after = ("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))
        content = path.read_text()
        assert content.count(before) == 1, f"{self.path} does not have these lines once:\n{before}"
        path.write_text(content.replace(before, after))


def changes(section: str) -> tuple[Change, Change]:
    """Return the source and the test that a section shows."""
    text = PAGE.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    source, test = (Change(found["path"], found["kind"], found["text"]) for found in BLOCK.finditer(text))
    assert source.path.startswith("linglos_deploy/"), source.path
    assert test.path.startswith("tests/"), test.path
    return source, test


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package and its tests."""
    root = tmp_path / "copy"
    for name in ("linglos_deploy", "tests"):
        # Compiled files too, which saves compiling them; not those that another process is just writing.
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("*.pyc.*"))
    shutil.copyfile(ROOT / "pyproject.toml", root / "pyproject.toml")
    return root


def python(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python on the copy, and nothing but the copy."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    environment["PYTHONPATH"] = str(root)
    return subprocess.run([sys.executable, *arguments], cwd=root, env=environment, capture_output=True, text=True)


def pytest_in(root: Path, *paths: str) -> subprocess.CompletedProcess[str]:
    return python(root, "-m", "pytest", "-q", "-p", "no:cacheprovider", *paths)


@pytest.mark.parametrize("section", WITHOUT)
def test_an_example_of_the_page_is_one_source_and_one_test_and_needs_both(section: str, copy: Path) -> None:
    source, test = changes(section)
    before = snapshot(copy)
    test.apply(copy)
    without = pytest_in(copy, test.path)
    assert without.returncode == 1, without.stdout + without.stderr  # a failed test, not one that cannot be read
    assert WITHOUT[section] in without.stdout, without.stdout

    source.apply(copy)
    with_source = pytest_in(copy, test.path)
    assert with_source.returncode == 0, with_source.stdout + with_source.stderr

    after = snapshot(copy)
    differing = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert {path for path in differing if path.startswith(("linglos_deploy/", "tests/"))} == {source.path, test.path}
    for command in (("check",), ("format", "--check")):
        linted = python(copy, "-m", "ruff", *command, "--no-cache", source.path, test.path)
        assert linted.returncode == 0, linted.stdout + linted.stderr


def test_every_block_of_code_that_names_a_file_belongs_to_an_example() -> None:
    text = PAGE.read_text()
    assert len(BLOCK.findall(text)) == 2 * len(WITHOUT)


@pytest.mark.slow
def test_all_examples_together_leave_the_rest_of_the_tree_as_it_is(copy: Path) -> None:
    """Types, the import contract, and the tests that look at all modules of a kind: no list had to be kept up."""
    for section in WITHOUT:
        for change in changes(section):
            change.apply(copy)
    types = python(copy, "-m", "mypy")
    assert types.returncode == 0, types.stdout
    imports = python(copy, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()")
    assert imports.returncode == 0, imports.stdout
    shutil.copytree(ROOT / "docs", copy / "docs")
    everything = pytest_in(
        copy,
        "tests/test_architecture.py",
        "tests/test_commands.py",
        "tests/test_doctests.py",
        "tests/test_options.py",
        "tests/test_screens.py",
        "tests/calibration/test_figures.py",
        "tests/calibration/test_registry.py",
        "tests/calibration/test_thresholds.py",
        "tests/engines/test_registry.py",
        "tests/exporters/test_decompositions.py",
        "tests/exporters/test_forms.py",
        "tests/exporters/test_rewrite.py",
        "tests/graph/test_operators.py",
        "tests/quantization/test_apply.py",
        "tests/quantization/test_plan.py",
    )
    assert everything.returncode == 0, everything.stdout + everything.stderr
