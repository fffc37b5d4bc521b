"""Print the tables of docs/decompositions.md and docs/sixteen-bits.md from decompositions.json.

python -m benchmarks.decompositions.tables build/decompositions/decompositions.json
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path


def main() -> None:
    results = json.loads(Path(sys.argv[1]).read_text())
    for name, show in (
        ("attention", attention),
        ("foreign", foreign),
        ("network", network),
        ("scaling", scaling),
        ("sixteen", sixteen),
    ):
        if name in results:
            print(f"{show(results[name])}\n")


def attention(part: dict, title: str = "one attention") -> str:
    lines = [f"| {title}, 224 x 224 | auto | pooled | reassociated |", "|---|---|---|---|"]
    for stage, row in part["stages"].items():
        cells = [_speedup(row[form]) for form in ("auto", "pooled", "reassociated")]
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    low, high = part["interval"]
    return "\n".join([*lines, f"| geometric mean | {part['geometric_mean']:.2f} [{low:.2f}, {high:.2f}] | | |"])


def foreign(part: dict) -> str:
    return attention(part, "foreign attention")


def network(part: dict) -> str:
    lines = ["| whole network | untouched, ms | auto | pooled | reassociated |", "|---|---|---|---|---|"]
    for place, row in part.items():
        cells = [_speedup(row[form], 3) for form in ("auto", "pooled", "reassociated")]
        lines.append(f"| {place} | {row['untouched']['milliseconds']:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def scaling(part: dict) -> str:
    lines = ["| pixels | key-only: ms, MiB | softmax: ms, MiB |", "|---|---|---|"]
    for size, row in part["sizes"].items():
        cells = [
            f"{row[name]['milliseconds']:.0f}, {row[name]['peak_mebibytes']:.0f}" if name in row else "not run"
            for name in ("linglo", "softmax")
        ]
        lines.append(f"| {size}² | {' | '.join(cells)} |")
    slopes = part["slopes"]
    cells = [
        ", ".join(f"{slopes[what][name]:.2f}" for what in ("milliseconds", "peak_mebibytes"))
        for name in ("linglo", "softmax")
    ]
    return "\n".join([*lines, f"| log-log slope | {' | '.join(cells)} |"])


def sixteen(part: dict) -> str:
    kinds = ("fp16", "naive fp16", "bf16", "naive bf16")
    lines = [f"| variant, image | {' | '.join(kinds)} |", "|---|---|---|---|---|"]
    for title, row in part.items():
        cells = ["–" if math.isnan(row[kind]) else f"{row[kind]:.6f}" for kind in kinds]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _speedup(result: dict, digits: int = 2) -> str:
    return f"{result['speedup']:.{digits}f} [{result['low']:.{digits}f}, {result['high']:.{digits}f}]"


if __name__ == "__main__":
    main()
