"""How long ``linglos-deploy --help`` takes, against ``python -c "import typer"``: the ratio of alternating runs.

python benchmarks/startup.py [--rounds 15] [--limit 2.5]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

BASELINE = [sys.executable, "-c", "import typer"]
PROGRAM = [str(Path(sys.executable).with_name("linglos-deploy")), "--help"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--limit", type=float, default=2.5)
    options = parser.parse_args()
    for command in (BASELINE, PROGRAM):
        seconds(command)  # fill the file cache and write the bytecode
    rounds = [(seconds(BASELINE), seconds(PROGRAM)) for _ in range(options.rounds)]
    ratio = statistics.median(program / baseline for baseline, program in rounds)
    for name, times in zip(("import typer", "--help"), zip(*rounds, strict=True), strict=True):
        print(f"{name:<14}{1e3 * statistics.median(times):7.0f} ms, median of {options.rounds}")
    print(f"ratio         {ratio:7.2f}, limit {options.limit}")
    return int(ratio > options.limit)


def seconds(command: list[str]) -> float:
    """Run a command; return its wall time."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
