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
        ("cosine=0.996, worst", "cosine=0.9, worst"),
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
        ("_STRICT_DB = 30.0", "_STRICT_DB = 60.0"),
        ("if shapes[0] != shapes[1]:", "if False:"),
        ("and not misshapen,", ","),
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
        ("others = _image(together[output], index, axis),", "others = alone,"),
        ("SIZES = (2, 3, 7, 9, 17)", "SIZES = (2, 3)"),
        ("SIZES_DB = 60.0", "SIZES_DB = 20.0"),
        ("EQUAL_DB) - 35.0", "EQUAL_DB)"),
        ("if closeness - limit < room:", "if closeness - limit > room:"),
        ("room >= 0,", "True,"),
        ("REPEATED_DB = 130.0", "REPEATED_DB = 100.0"),
        ("repeated >= REPEATED_DB,", "True,"),
    ),
    *_of(
        "reached.py",
        "test_reached.py",
        ("Precision.INT8: 1.5", "Precision.INT8: 30"),
        ("Precision.FP16: 3.0", "Precision.FP16: 30"),
        ("Precision.BF16: 3.0", "Precision.BF16: 30"),
        ("Precision.FP32: 12.0", "Precision.FP32: 40.0"),
        ("_SPREADS = 3.0", "_SPREADS = 9.0"),
        ("ENOUGH_DB = 115.0", "ENOUGH_DB = 60.0"),
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
        "test_proof_rules.py test_token_faults.py test_structure.py",
        ("yield from self._check_attributes(maker, other)\n", "list(())\n"),
        ("if len(maker.inputs) != len(other.inputs):", "if False:"),
        ("elif left is not right:", "elif False:"),
        ("if not rounded_alike(wanted, found, self.element):", "if False:"),
        (
            "if wanted is None or found is None:\n            self.differ(",
            "if wanted is None or found is None:\n            (lambda *_, **__: 0)(",
        ),
        ('if again is not None and again.op_type == "DequantizeLinear":', "if False:"),
        ("if self.element is None:\n            return value", "if False:\n            return value"),
        ("floats = (ir.DataType.FLOAT, self.element)", "floats = tuple(ir.DataType)"),
        ("if self.partners.setdefault(id(maker), other) is not other:", "if False:"),
        ("if not alike(maker, other) or mine.index() != theirs.index() or", "if mine.index() != theirs.index() or"),
        ("or mine.index() != theirs.index() or", "or"),
        ("or self._strangers(maker, other):", "or False:"),
        ("if maker is not other or not self._same_input(mine, theirs):", "if maker is not other:"),
        ("if maker is not other or not self._same_input(mine, theirs):", "if not self._same_input(mine, theirs):"),
        ("mine.name == theirs.name if bound is None else bound is mine", "mine.name == theirs.name"),
        ("name in _TYPES and", ""),
        ("return text_of(left) == text_of(right)", "return True"),
        ("return rounded_alike(left, right, self.element)", "return True"),
        ("return bool(left == right)", "return True"),
        ("if left.name != right.name or", "if"),
        ("or right.dtype not in kinds", ""),
        (" or str(left.shape) != str(right.shape)", ""),
        ("if len(mine) != len(theirs):", "if False:"),
        ("if counts[0] != counts[1]:", "if False:"),
        ("yield mine, theirs, reader\n\n    def _same_input", "return\n        yield\n\n    def _same_input"),
        ("if opset_of(candidate) < opset_of(parent):", "if False:"),
        ("if mine[domain] != theirs[domain]:", "if False:"),
        ("if functions[0].get(key) != functions[1].get(key):", "if False:"),
        ("self.differences.extend(pair_differences(pair, self.placement))", "pass"),
        ("self.differences.extend(weight_differences(weight, self.element))", "pass"),
        ("differences += walk.differences", "pass"),
        ("differences += plan_differences(", "list(plan_differences)if False else ("),
        (
            'if quantizer is None or quantizer.op_type != "QuantizeLinear":\n            self.differ(',
            'if quantizer is None or quantizer.op_type != "QuantizeLinear":\n            (lambda *_, **__: 0)(',
        ),
        ("if not self.int8 or maker is None", "if maker is None"),
    ),
    *_of(
        "pairs.py",
        "test_proof_rules.py test_pairs.py test_token_faults.py test_placements.py test_structure.py",
        ("HALF_STEP = 0.5 + 1e-4", "HALF_STEP = 0.9"),
        ("SCALE_SLACK = 2.0**-9", "SCALE_SLACK = 3.0"),
        ("_SMALLEST_HALF = 2.0**-24", "_SMALLEST_HALF = 1.0"),
        ("_SMALLEST_NORMAL = 2.0**-126", "_SMALLEST_NORMAL = 1.0"),
        ("if value is None:\n        yield", "if value is None:\n        return\n        yield"),
        ("if first.tobytes() != second.tobytes():", "if False:"),
        ("if kind != placement.integers or (zero is not None and zero.any() and not free):", "if False:"),
        ("if pair.zero_points[0] != pair.zero_points[1]:", "if False:"),
        ("free = placement.zero_points and", "free ="),
        (
            "if kind != placement.integers or (zero is not None and zero.any() and not free):",
            "if zero is not None and zero.any() and not free:",
        ),
        (
            "if kind != placement.integers or (zero is not None and zero.any() and not free):",
            "if kind != placement.integers:",
        ),
        ("if not (np.isfinite(value) and value > 0):", "if False:"),
        ("if not (np.isfinite(value) and value > 0):", "if not np.isfinite(value):"),
        ("if integers.dtype != np.int8 or", "if"),
        (
            "if integers.dtype != np.int8 or (weight.zero is not None and weight.zero.any()):",
            "if integers.dtype != np.int8:",
        ),
        ("if not (np.isfinite(steps) & (steps > 0)).all() or", "if"),
        (" or (steps.ndim and steps.shape != (wanted.shape[weight.axis],))", ""),
        ("yield from _far_integers(", "list("),
        ("yield from _wide_scales(", "list("),
        ("- np.abs(whole) * rounding", "- np.abs(whole) * rounding * 9999"),
        ("limit = 63 if weight.largest <= 63 else ACTIVATION_LIMIT", "limit = 7"),
        ("wide = (steps > needed * (1 + SCALE_SLACK) + smallest_step(element)) & (bounds > 0)", "wide = bounds > 1e30"),
        ("and self.wanted.shape == self.integers.shape", ""),
        ('return "uint8" if node.op_type == "QuantizeLinear" else "int8"', 'return "int8"'),
    ),
    *_of(
        "biases.py",
        "test_placements.py",
        ("if bias.node is None or bias.node.op_type not in placement.biases:", "if bias.node is None:"),
        ("if bias.steps is None or (constant.zero", "if (constant.zero"),
        ("if scales.shape != steps.shape or not np.allclose(", "if scales.shape != steps.shape or not len("),
        ("> HALF_STEP:\n        count", "> 1e30:\n        count"),
    ),
    *_of(
        "planned.py",
        "test_proof_rules.py test_pairs.py test_token_faults.py test_placements.py test_structure.py",
        ("if place is None:\n            yield", "if place is None:\n            continue\n            yield"),
        ("yield from _grid_differences(", "list("),
        ("yield from _bias_differences(", "list("),
        ("if (pair.scale, pair.zero_points[0]) != (scale, int(zero_point)):", "if pair.scale != scale:"),
        ("if (pair.scale, pair.zero_points[0]) != (scale, int(zero_point)):", "if pair.zero_points[0] != zero_point:"),
        ("yield from _scale_differences(", "list("),
        ("if pair.scale not in (float(exact), float(wanted)):", "if False:"),
        ("if not -SCALE_SLACK <= reach / decision.bound - 1 <=", "if False and not 0 <="),
        ("if not -SCALE_SLACK <= reach", "if not -9 <= reach"),
        ("<= SCALE_SLACK + smallest_step(element) / pair.scale:", "<= 9:"),
        ("for layer in sorted((wanted - found) & rounding.matched.keys()):", "for layer in ():"),
        ("for layer in sorted(found - wanted):", "for layer in ():"),
        ("if weight is None:\n            yield", "if weight is None:\n            continue\n            yield"),
        ("yield from _weight_differences(", "list("),
        ("if (weight.weight, weight.axis) != (decision.weight, decision.weight_axis):", "if False:"),
        ("elif not (weight.largest <= most and", "elif False and not (weight.largest <= most and"),
        ("weight.largest > most // 2 or", "True or"),
        ("weight.largest <= most and", "True and"),
        ("for layer in sorted(weights.keys() - decided.keys()):", "for layer in ():"),
    ),
    *_of(
        "constants.py",
        "test_proof_rules.py test_structure.py",
        (
            "if wanted.shape != found.shape:\n        return False",
            "if wanted.shape != found.shape:\n        return True",
        ),
        ("return wanted.tobytes() == found.tobytes()", "return True"),
        ("if element is None or wanted.dtype != np.float32 or", "if element is None or"),
        ("or found.dtype != element.numpy():", "and False:"),
        ("same = (rounded == found) |", "same = np.isfinite(rounded) |"),
        ("same |= (tiny | huge) & (np.signbit(wanted) == np.signbit(narrow))", "same |= tiny | huge"),
        ("& (kept <= limits.tiny)", ""),
        ("& (kept == limits.max)", ""),
        ("return bool(same.all())", "return bool(same.any())"),
    ),
    *_of(
        "../reports/parity.py",
        "test_proof_rules.py",
        ("return not self.differences", "return True"),
    ),
    *_of(
        "decisions.py",
        "test_two_graphs.py",
        ("plan.graph_digest == graph_digest,", "True,"),
        ("not wrong and table.graph_digest == graph_digest,", "not wrong,"),
        ("not wrong and table.graph_digest == graph_digest,", "table.graph_digest == graph_digest,"),
        ("_SAME = 1e-6", "_SAME = 0.5"),
        ("if statistics is None:\n        return f", "if statistics is None:\n        return None\n        return f"),
    ),
    *_of(
        "probes.py",
        "test_probes.py",
        ("np.full(shape, high),\n        *(", "np.full(shape, low),\n        *("),
        ("for channel in (0, -1)", "for channel in (0, 0)"),
        ("endpoint=True", "endpoint=False"),
        ("int(np.argmin(shape))", "int(np.argmax(shape))"),
        ("low + (high - values[0]", "low + (low - values[0]"),
        ("if len(signature.inputs) != 1:", "if False:"),
        ("width + 2 * divisor", "width"),
        ("high = height + 2 * divisor", "high = height"),
    ),
    *_of(
        "criteria.py",
        "test_criteria.py",
        ("limits = replace(limits, **part.limits)", "pass"),
        ("replace(limits, **self.everywhere)", "limits"),
    ),
    *_of(
        "locate.py",
        "test_search.py test_locate.py",
        ("self.last_reader[name] > index or", ""),
        ("or name == self.order[index]", ""),
        ("LIMIT_DB = 110.0", "LIMIT_DB = 10.0"),
        ("LIMIT_DB = 110.0", "LIMIT_DB = 160.0"),
        ("low = middle + 1", "low = middle + 2"),
        ("low = middle + 1", "low = middle"),
        ("high = middle\n", "high = middle - 1\n"),
        ("return all(self.seen[name] >= self.limit_db for name in names)", "return any(map(self.seen.get, names))"),
        (
            "if wanted.shape != found.shape:\n        return -np.inf",
            "if wanted.shape != found.shape:\n        return 300.0",
        ),
        ("return -np.inf if metrics.mismatched_nonfinite else metrics.sqnr_db", "return metrics.sqnr_db"),
        ("len(order) if name in returned else", ""),
        ("layer = _missing_maker(search, tensor) or producers", "layer = producers"),
        ("if order and not search.clean(len(order) - 1):", "if order:"),
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
    path = copy / mutant.file
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


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:2]))
