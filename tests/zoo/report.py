"""Send the zoo through its stages and print a table: ``python -m tests.zoo.report --only vit,swin --stages fp32,int8``.

Each line of ``--log`` is the outcome of one architecture as JSON, written as soon as it is known.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.zoo.entry import Entry
from tests.zoo.hugging_face import HUGGING_FACE
from tests.zoo.own import OWN
from tests.zoo.stages import Outcome, Stage, Visit

ZOO: tuple[Entry, ...] = (*OWN, *HUGGING_FACE)


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if every outcome is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--stages", default=",".join(Stage))
    parser.add_argument("--log", type=Path)
    options = parser.parse_args(arguments)
    stages = [Stage(name) for name in options.stages.split(",")]
    wanted = set(filter(None, options.only.split(",")))
    surprises = 0
    passed = dict.fromkeys(stages, 0)
    chosen = [entry for entry in ZOO if not wanted or entry.name in wanted]
    print("| architecture | " + " | ".join(stages) + " |\n|---|" + "---|" * len(stages))
    for entry in chosen:
        outcomes = visit(entry, stages)
        for outcome in outcomes:
            passed[outcome.stage] += outcome.passed
            surprises += not as_expected(entry, outcome)
        print(f"| {entry.name} | " + " | ".join(_cell(entry, outcome) for outcome in outcomes) + " |", flush=True)
        if options.log:
            with options.log.open("a", encoding="utf-8") as log:
                log.write(
                    json.dumps({"name": entry.name, "outcomes": [asdict(outcome) for outcome in outcomes]}) + "\n"
                )
    print("| passed | " + " | ".join(f"{passed[stage]} of {len(chosen)}" for stage in stages) + " |")
    return 1 if surprises else 0


def visit(entry: Entry, stages: list[Stage]) -> list[Outcome]:
    """Send one architecture through the stages."""
    with tempfile.TemporaryDirectory(prefix="linglos-zoo-") as folder:
        try:
            visitor = Visit(entry, Path(folder))
        except Exception as error:
            return [Outcome(stage, False, f"{type(error).__name__}: {error}", 0.0) for stage in stages]
        return [visitor.run(stage) for stage in stages]


def as_expected(entry: Entry, outcome: Outcome) -> bool:
    """Return whether an outcome is a PASS, the limit that is stated for it, or sizes that are refused by name."""
    if outcome.refused:
        return True
    limit = entry.limits.get(outcome.stage)
    return outcome.passed if limit is None else not outcome.passed and limit in outcome.note


def _cell(entry: Entry, outcome: Outcome) -> str:
    if outcome.passed:
        return outcome.note
    if outcome.refused:
        return f"refused: {outcome.note.partition('found:')[2].partition('expected:')[0].strip()}"
    state = "limit" if as_expected(entry, outcome) else "FAIL"
    return f"{state}: {' '.join(outcome.note.split())[:160].replace('|', '/')}"


if __name__ == "__main__":
    sys.exit(main())
