"""Weaken each limit and check of parity in turn, and expect the tests to notice.

    python -m tests.parity.mutants            all of them
    python -m tests.parity.mutants structure  those of one file

A mutant is a text of a file and what stands in its place. It is written into a copy of the package, on which the tests
named beside it run; they must fail. Exits with 1 if a mutant lives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARITY = "linglos_deploy/parity/"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One damage, and the tests that must see it."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def _of(file: str, tests: str, *damages: tuple[str, str]) -> list[Mutant]:
    places = tuple(f"tests/parity/{name}" for name in tests.split())
    return [Mutant(PARITY + file, old, new, places) for old, new in damages]


MUTANTS = [
    *_of(
        "verdict.py",
        "test_verdict.py test_channels.py test_limits.py",
        ("cosine=0.98, worst_cosine=0.90, sqnr_db=13", "cosine=0.5, worst_cosine=0.90, sqnr_db=13"),
        ("cosine=0.98, worst_cosine=0.90, sqnr_db=13", "cosine=0.98, worst_cosine=0.50, sqnr_db=13"),
        ("cosine=0.98, worst_cosine=0.90, sqnr_db=13", "cosine=0.98, worst_cosine=0.90, sqnr_db=0"),
        ("top1_agreement=0.9, variation_db=6", "top1_agreement=0.5, variation_db=6"),
        ("top1_agreement=0.9, variation_db=6", "top1_agreement=0.9, variation_db=-6"),
        ("group_db=10", "group_db=0"),
        ("sqnr_db=22", "sqnr_db=12"),
        ("sqnr_db=40", "sqnr_db=30"),
        ("sqnr_db=100", "sqnr_db=80"),
        ("max_relative=1e-4", "max_relative=1e-2"),
        ("max_relative=2e-2", "max_relative=1"),
        ("cosine=0.999999", "cosine=0.9"),
        ("worst_cosine=0.99999", "worst_cosine=0.9"),
        ("cosine=0.9999,", "cosine=0.9,"),
        ("worst_cosine=0.999,", "worst_cosine=0.9,"),
        ("cosine=0.999, worst", "cosine=0.9, worst"),
        ("worst_cosine=0.99, sqnr_db=22", "worst_cosine=0.9, sqnr_db=22"),
        ("top1_agreement=0.98", "top1_agreement=0.5"),
        ("top1_agreement=0.97", "top1_agreement=0.5"),
        ("top1_agreement=0.95", "top1_agreement=0.5"),
        ("variation_db=85", "variation_db=0"),
        ("group_db=85", "group_db=0"),
        ("variation_db=30", "variation_db=0"),
        ("group_db=30", "group_db=0"),
        ("variation_db=12", "variation_db=0"),
        ("group_db=12", "group_db=0"),
        ("passed=strangers == 0", "passed=True"),
        ("passed = found <= limit if metric.at_most", "passed = found >= limit if metric.at_most"),
        ("_SURE_DB = 15.0", "_SURE_DB = 40.0"),
        ("_LEAST_FLOAT32_DB = 25.0", "_LEAST_FLOAT32_DB = 5.0"),
        ("if rows.taken != reference.samples:", "if False:"),
        ("if same_inputs and sample_digests(batch) != expected.inputs:", "if False:"),
        ("passed=all(output.passed for output in outputs)", "passed=True"),
        ("if not trained:", "if trained:"),
    ),
    *_of(
        "positions.py",
        "test_positions.py",
        ("Precision.FP32: 90.0", "Precision.FP32: 20.0"),
        ("Precision.FP16: 60.0", "Precision.FP16: 20.0"),
        ("Precision.BF16: 50.0", "Precision.BF16: 20.0"),
        ("Precision.INT8: 20.0", "Precision.INT8: 60.0"),
        ("COMPANY_DB = 90.0", "COMPANY_DB = 20.0"),
        ("if leak < COMPANY_DB:", "if False:"),
        ("if closeness < worst:", "if closeness > worst:"),
        ("worst >= limit,", "True,"),
        ("if (middle := median(found)) < worst:", "if (middle := max(found)) < worst:"),
        ("-EQUAL_DB if metrics.mismatched_nonfinite else", ""),
        ("others = together[output][index : index + 1],", "others = alone,"),
    ),
    *_of(
        "reached.py",
        "test_reached.py",
        ("Precision.INT8: 1.5", "Precision.INT8: 30"),
        ("Precision.FP16: 3.0", "Precision.FP16: 30"),
        ("Precision.BF16: 3.0", "Precision.BF16: 30"),
        ("Precision.FP32: 12.0", "Precision.FP32: 40.0"),
        ("_SPREADS = 3.0", "_SPREADS = 9.0"),
        ("_ENOUGH_DB = 115.0", "_ENOUGH_DB = 60.0"),
        ("output.metrics.sample_db_mean >= limit,", "True,"),
        ("known == digest,", "True,"),
        ("same = kept.inputs == inputs.get(output.images)", "same = False"),
    ),
    *_of(
        "layerwise.py",
        "test_reached.py",
        ("FLOOR_DB = {Precision.FP16: 20.0", "FLOOR_DB = {Precision.FP16: 0.0"),
        ("Precision.BF16: 10.0", "Precision.BF16: 0.0"),
        ('Precision.INT8: 3.0}\n"""SQNR', 'Precision.INT8: -3.0}\n"""SQNR'),
        ("LAYER_SLACK_DB = {Precision.FP16: 4.0", "LAYER_SLACK_DB = {Precision.FP16: 40.0"),
        ("Precision.BF16: 4.0", "Precision.BF16: 40.0"),
        (" or layer.metrics.mismatched_nonfinite", ""),
    ),
    *_of(
        "channels.py",
        "test_channels.py",
        ("GAP = 8.0", "GAP = 8000.0"),
        ("self._square - self._sum**2 / self._values", "self._square"),
        ("return 2 if len(shape) == 3 and shape[2] < shape[1] else 1", "return 1"),
    ),
    *_of(
        "structure.py",
        "test_structure.py",
        ("_HALF_STEP = 0.5 + 1e-4", "_HALF_STEP = 0.9"),
        ("_SCALE_SLACK = 2.0**-9", "_SCALE_SLACK = 3.0"),
        ("if scale.tobytes() != scales[1].tobytes():", "if False:"),
        ('if kind != "int8" or (zero is not None and zero.any()):', "if False:"),
        ("self._check_attributes(maker, other)\n", "\n"),
        ("if len(maker.inputs) != len(other.inputs):", "if False:"),
        (
            "if not self._rounded_alike(wanted, found):\n            self.differ(reader",
            "if False:\n            self.differ(reader",
        ),
        (
            "if decision is None:\n            walk.differ(",
            "if decision is None:\n            continue\n            walk.differ(",
        ),
        ("for reader in sorted((wanted - found) & walk.matched.keys()):", "for reader in ():"),
        ("if pair.scale not in (float(exact), float(wanted)):", "if False:"),
        ("if not -_SCALE_SLACK <= reach / decision.bound - 1", "if False and not 0 <= reach / decision.bound - 1"),
        ("elif not (weight.largest <= most and", "elif False and not (weight.largest <= most and"),
        ("for name in sorted(weights.keys() - decided.keys()):", "for name in ():"),
        ('if again is not None and again.op_type == "DequantizeLinear":', "if False:"),
        ("same |= (tiny | huge) & (np.signbit(wanted) == np.signbit(narrow))", "same |= tiny | huge"),
        ("if self.element is None:\n            return value", "if False:\n            return value"),
        ("return not self.differences", "return True"),
    ),
    *_of(
        "criteria.py",
        "test_criteria.py",
        ("limits = replace(limits, **part.limits)", "pass"),
        ("replace(limits, **self.everywhere)", "limits"),
    ),
    *_of(
        "locate.py",
        "test_locate.py",
        ("self.last_reader[name] > index or", ""),
        ("LIMIT_DB = 110.0", "LIMIT_DB = 10.0"),
        ("low = middle + 1", "low = middle + 2"),
    ),
]


def main(only: str = "") -> int:
    """Try every mutant of the files whose name holds ``only``."""
    lived = 0
    chosen = [mutant for mutant in MUTANTS if only in mutant.file]
    with tempfile.TemporaryDirectory(prefix="linglos-mutants-") as folder:
        copy = Path(folder)
        for part in ("linglos_deploy", "tests", "examples", "pyproject.toml", "cpp"):
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, copy / part, ignore=shutil.ignore_patterns("__pycache__", "build"))
            else:
                shutil.copy(source, copy / part)
        for mutant in chosen:
            killed = _try(mutant, copy)
            lived += not killed
            line = mutant.old.strip().splitlines()[0]
            print(f"{'killed' if killed else 'LIVES '}  {mutant.file}: {line} -> {mutant.new.strip()[:60]}", flush=True)
    print(f"{len(chosen)} mutants, {lived} live")
    return 1 if lived else 0


def _try(mutant: Mutant, copy: Path) -> bool:
    path = copy / _file_of(mutant)
    original = path.read_text(encoding="utf-8")
    if mutant.old not in original:
        raise SystemExit(f"{mutant.file} no longer holds {mutant.old!r}; change the list of mutants with the code")
    path.write_text(original.replace(mutant.old, mutant.new), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-m", "not slow", *mutant.tests]
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    try:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, check=False)
    finally:
        path.write_text(original, encoding="utf-8")
    return done.returncode == 1


def _file_of(mutant: Mutant) -> str:
    return "linglos_deploy/reports/parity.py" if mutant.old == "return not self.differences" else mutant.file


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:2]))
