"""Runs mutants: one process imports what they share, and each mutant gets a fork of it."""

from __future__ import annotations

import compileall
import importlib
import os
import py_compile
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from tests.parity import KEPT_DIGITS
from tests.parity.mutants import MUTANTS, ROOT, Mutant

COPIED = ("linglos_deploy", "tests", "examples", "docs", "pyproject.toml", "cpp", "action.yml")
SHARED = (
    "hypothesis",
    "ml_dtypes",
    "numpy",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "PIL.Image",
    "pytest",
    "scipy.stats",
    "sklearn.datasets",
    "torch",
)
"""What takes long to import and is no part of the package."""
MOST_SECONDS = 240
"""A mutant that has the tests run on for as long as this was noticed: it made something endless."""


def main(*words: str) -> int:
    """Try every mutant of the files whose path holds one of some words, of all files without any."""
    lived = 0
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.file for word in words)]
    for name in SHARED:
        importlib.import_module(name)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="linglos-mutants-") as folder:
        copy = copy_of_package(Path(folder))
        for tests, mutants in groupby(chosen, key=lambda mutant: mutant.tests):
            start = time.monotonic()
            if (code := run_tests(copy, tests)) != 0:
                raise SystemExit(f"Without a mutant {' '.join(tests)} end with {code}:\n{output_of(copy)}")
            print(f"{time.monotonic() - start:5.0f} s  {' '.join(tests)} pass without a mutant", flush=True)
            for mutant in mutants:
                start = time.monotonic()
                with applied(mutant, copy):
                    code = run_tests(copy, tests)
                lived += code != 1
                verdict = {0: "LIVES", 1: "killed"}.get(code, f"code {code}")
                line = mutant.old.strip().splitlines()[0]
                where = f"{mutant.file}: {line} -> {mutant.new.strip()[:60]}"
                print(f"{time.monotonic() - start:5.0f} s  {verdict}  {where}", flush=True)
    print(f"{len(chosen)} mutants, {lived} live, {time.monotonic() - began:.0f} s")
    return 1 if lived else 0


def copy_of_package(folder: Path) -> Path:
    """Copy what the tests need; compiled files look at their sources, for a mutant is no younger than they are."""
    for part in COPIED:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__", "build"))
        else:
            shutil.copy(source, folder / part)
    mode = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(folder / "linglos_deploy", quiet=1, invalidation_mode=mode)
    return folder


@contextmanager
def applied(mutant: Mutant, copy: Path) -> Iterator[None]:
    """Damage the copy for as long as the context lasts."""
    path = copy / mutant.file
    original = path.read_text(encoding="utf-8")
    if mutant.old not in original:
        raise SystemExit(f"{mutant.file} no longer holds {mutant.old!r}; change the list of mutants with the code")
    path.write_text(original.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(original, encoding="utf-8")


def run_tests(copy: Path, tests: Sequence[str]) -> int:
    """Run tests on the copy in a fork; return pytest's exit code, 1 where they took too long."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os._exit(_in_fork(copy, tests))
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return 1 if os.WTERMSIG(status) == signal.SIGALRM else -os.WTERMSIG(status)
    return os.WEXITSTATUS(status)


def output_of(copy: Path) -> str:
    """Return what the last tests printed."""
    return (copy / "output.txt").read_text(encoding="utf-8", errors="replace")[-4000:]


def _in_fork(copy: Path, tests: Sequence[str]) -> int:
    signal.alarm(MOST_SECONDS)
    output = os.open(copy / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(copy)
    os.environ.setdefault(KEPT_DIGITS, str(copy / "digits"))
    os.environ["PYTHONPATH"] = str(copy)  # for commands that tests start
    sys.path.insert(0, str(copy))
    sys.dont_write_bytecode = True
    for name in [name for name in sys.modules if name.partition(".")[0] in ("linglos_deploy", "tests")]:
        del sys.modules[name]
    import pytest

    code = int(pytest.main(["-q", "-x", "-n", "0", "-m", "not slow", "-p", "no:cacheprovider", *tests]))
    sys.stdout.flush()
    return code


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
