"""The list of mutants goes with the code. It is no test that a mutant may run: each would fail it by being one."""

from __future__ import annotations

from tests.parity import mutants


def test_every_mutant_still_fits_the_code() -> None:
    for mutant in mutants.MUTANTS:
        text = (mutants.ROOT / mutant.file).read_text(encoding="utf-8")
        assert mutant.old in text, f"{mutant.file}: {mutant.old}"
        assert mutant.old != mutant.new
        for tests in mutant.tests:
            assert (mutants.ROOT / tests).is_file()
            assert tests != "tests/parity/test_mutants.py"
