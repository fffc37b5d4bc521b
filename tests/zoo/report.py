"""Send the zoo through its stages and print a table: ``python -m tests.zoo.report --only vit,swin --stages fp32,int8``.

Each line of ``--log`` is the outcome of one architecture as JSON, written as soon as it is known; a run goes on behind
what its log holds already. ``--summary`` makes the table of such logs again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from tests.zoo.entry import Entry
from tests.zoo.hugging_face import HUGGING_FACE
from tests.zoo.own import OWN
from tests.zoo.stages import Outcome, Stage, Visit
from tests.zoo.varied import VARIED

PASSED, REFUSED, LIMIT, FAILED = STATES = ("passed", "refused by name", "limit", "FAIL")
"""How an outcome counts."""

ZOO: tuple[Entry, ...] = (*OWN, *VARIED, *HUGGING_FACE)


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if every outcome is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--stages", default=",".join(Stage))
    parser.add_argument("--log", type=Path)
    parser.add_argument("--summary", type=Path, nargs="+", metavar="LOG", help="Run nothing; later logs go first.")
    options = parser.parse_args(arguments)
    stages = [Stage(name) for name in options.stages.split(",")]
    wanted = set(filter(None, options.only.split(",")))
    chosen = [entry for entry in ZOO if not wanted or entry.name in wanted]
    known = options.log is not None and options.log.exists()
    logged = _read_logs(options.summary or ([options.log] if known else ()))
    counts = {stage: Counter[str]() for stage in stages}
    print("| architecture | " + " | ".join(stages) + " |\n|---|" + "---|" * len(stages))
    for entry in chosen:
        if options.summary and entry.name not in logged:
            continue
        outcomes = logged.get(entry.name) or visit(entry, stages)
        for outcome in outcomes:
            counts[outcome.stage][state(entry, outcome)] += 1
        print(f"| {entry.name} | " + " | ".join(_cell(entry, outcome) for outcome in outcomes) + " |", flush=True)
        if options.log and entry.name not in logged:
            with options.log.open("a", encoding="utf-8") as log:
                log.write(
                    json.dumps({"name": entry.name, "outcomes": [asdict(outcome) for outcome in outcomes]}) + "\n"
                )
    for name in STATES:
        print(f"| **{name}** | " + " | ".join(str(counts[stage][name]) for stage in stages) + " |")
    return 1 if any(count[FAILED] for count in counts.values()) else 0


def _read_logs(logs: Iterable[Path]) -> dict[str, list[Outcome]]:
    """Return the outcomes of each architecture; where several logs have a stage, those of the last one."""
    found: dict[str, dict[Stage, Outcome]] = {}
    for log in logs:
        for line in log.read_text(encoding="utf-8").splitlines():
            content = json.loads(line)
            for fields in content["outcomes"]:
                outcome = Outcome(**{**fields, "stage": Stage(fields["stage"])})
                found.setdefault(content["name"], {})[outcome.stage] = outcome
    return {name: [outcomes[stage] for stage in Stage if stage in outcomes] for name, outcomes in found.items()}


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
    return state(entry, outcome) != FAILED


def state(entry: Entry, outcome: Outcome) -> str:
    """Return one of :data:`STATES`. What is stated as a limit and passes is a failure too: the statement is wrong."""
    if outcome.refused:
        return REFUSED
    limit = entry.limits.get(outcome.stage)
    if limit is None:
        return PASSED if outcome.passed else FAILED
    return LIMIT if not outcome.passed and limit in outcome.note else FAILED


def _cell(entry: Entry, outcome: Outcome) -> str:
    found = state(entry, outcome)
    if found == PASSED:
        return outcome.note
    if found == REFUSED:
        return f"refused: {outcome.note.partition('found:')[2].partition('expected:')[0].strip()}"
    return f"{found}: {' '.join(outcome.note.split())[:160].replace('|', '/')}"


if __name__ == "__main__":
    sys.exit(main())
