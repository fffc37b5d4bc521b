"""Does ``profile`` tell the truth on real runs? One graph under two names, and a planted difference.

    python benchmarks/profiling/a_a.py results.jsonl --runs 20 --budget 14
    python benchmarks/profiling/a_a.py results.jsonl --report

A/A: the same graph twice, beside nothing, a busy neighbour and one that keeps the memory busy; "no measurable
difference" is right. Planted: the second is slower by 3 % (beside nothing) and 5 % (beside a busy neighbour), by a wait
that is a part of each run's own time; "slower" is right. Every measurement is one line of the results file, and what is
there is not measured again: stop it whenever you like. The load that was found before each is in its line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import slowed  # registers the backend
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.profiling import blocks
from linglos_deploy.profiling.measure import measure
from linglos_deploy.profiling.plan import Candidate, MeasurementPlan
from linglos_deploy.profiling.process import start_worker

NEIGHBOURS = {
    "quiet": None,
    "busy": "while True: pass",
    "memory": "import numpy as np\na, b = np.ones(1 << 25), np.empty(1 << 25)\nwhile True: np.copyto(b, a)",
}


@dataclass(frozen=True)
class Experiment:
    """What is measured beside what.

    Attributes:
        name: ``a/a`` or ``planted``.
        neighbour: One of :data:`NEIGHBOURS`.
        planted: By how much the second candidate is slower.
        right: The right finding.
    """

    name: str
    neighbour: str
    planted: float
    right: str


SAME, SLOWER = "no measurable difference", "slower"
EXPERIMENTS = (
    Experiment("a/a", "quiet", 0.0, SAME),
    Experiment("a/a", "busy", 0.0, SAME),
    Experiment("a/a", "memory", 0.0, SAME),
    Experiment("planted", "quiet", 0.03, SLOWER),
    Experiment("planted", "busy", 0.05, SLOWER),
)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--runs", type=int, default=20, help="measurements of each experiment")
    parser.add_argument("--budget", type=float, default=14.0, help="seconds of a measurement")
    parser.add_argument("--processes", type=int, help="processes of each candidate, instead of a budget")
    parser.add_argument("--seconds", type=float, default=0.4, help="timed seconds of a process")
    parser.add_argument("--only", choices=("a/a", "planted"))
    parser.add_argument("--beside", choices=tuple(NEIGHBOURS))
    parser.add_argument("--model", type=Path, help="an ONNX file [twelve convolutions, about 2 ms]")
    parser.add_argument("--report", action="store_true", help="only show what is there")
    options = parser.parse_args(arguments)
    chosen = [
        experiment
        for experiment in EXPERIMENTS
        if options.only in (None, experiment.name) and options.beside in (None, experiment.neighbour)
    ]
    if not options.report:
        with TemporaryDirectory() as folder:
            model = options.model or write_network(Path(folder) / "network.onnx")
            budget = options.budget if options.processes is None else None
            plan = MeasurementPlan(processes=options.processes, budget_seconds=budget, min_seconds=options.seconds)
            for index in range(options.runs):  # all kinds in turn, so that a day's change meets all of them
                for experiment in chosen:
                    if (experiment, index) not in done(options.results):
                        append(options.results, experiment, index, run(experiment, model, plan))
    print(table(read(options.results)))
    return 0


def run(experiment: Experiment, model: Path, plan: MeasurementPlan) -> dict[str, Any]:
    """Make one measurement."""
    worker = (sys.executable, str(Path(slowed.__file__)))
    blocks.start_worker = partial(start_worker, worker)
    candidates = [
        Candidate("slowed", model, label="one"),
        Candidate("slowed", model, label="other", options={"share": experiment.planted}),
    ]
    with beside(NEIGHBOURS[experiment.neighbour]):
        report = measure(candidates, plan)
    first, second = report.rows
    ratio, latency = second.ratio, first.latency
    return {
        "finding": str(ratio.finding) if ratio is not None else second.reason or first.reason,
        "ratio": None if ratio is None else [ratio.value, ratio.low, ratio.high],
        "blocks": None if ratio is None else ratio.blocks,
        "p50_ms": None if latency is None else latency.p50,
        "seconds": report.method.seconds,
        "seed": report.method.seed,
        "load_before": report.conditions.load_before,
        "cpu": report.machine.cpu,
        "cpus": report.conditions.usable_cpus,
    }


@contextmanager
def beside(program: str | None) -> Iterator[None]:
    """Let a neighbour run meanwhile."""
    if program is None:
        yield
        return
    neighbour = subprocess.Popen([sys.executable, "-c", program])
    try:
        yield
    finally:
        neighbour.kill()
        neighbour.wait()


def write_network(path: Path, *, layers: int = 12, channels: int = 48, size: int = 28) -> Path:
    """Write convolutions of 3 x 3 in a row."""
    generator = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(
            generator.normal(0, 0.05, (channels, channels, 3, 3)).astype(np.float32), name=f"weight{place}"
        )
        for place in range(layers)
    ]
    nodes = [
        helper.make_node("Conv", [f"x{place}", f"weight{place}"], [f"x{place + 1}"], pads=[1, 1, 1, 1])
        for place in range(layers)
    ]
    shape = [1, channels, size, size]
    ends = [helper.make_tensor_value_info(f"x{place}", TensorProto.FLOAT, shape) for place in (0, layers)]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def read(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def done(results: Path) -> set[tuple[Experiment, int]]:
    return {(Experiment(**entry["experiment"]), entry["index"]) for entry in read(results)}


def append(results: Path, experiment: Experiment, index: int, found: dict[str, Any]) -> None:
    with results.open("a") as file:
        file.write(json.dumps({"experiment": asdict(experiment), "index": index, **found}) + "\n")


def table(entries: list[dict[str, Any]]) -> str:
    """Return the raw counts as Markdown."""
    lines = [
        "| experiment | beside | planted | right | of | other findings | median ± | load before |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for experiment in EXPERIMENTS:
        own = [entry for entry in entries if Experiment(**entry["experiment"]) == experiment]
        if not own:
            continue
        counts = Counter(entry["finding"] for entry in own)
        right = counts.pop(experiment.right, 0)
        widths = [(e["ratio"][2] - e["ratio"][1]) / (2 * e["ratio"][0]) for e in own if e["ratio"] and e["ratio"][1]]
        others = ", ".join(f"{count} {finding}" for finding, count in counts.items()) or "–"
        loads = [entry["load_before"] for entry in own]
        cells = (
            *(experiment.name, experiment.neighbour, f"{experiment.planted:.0%}", right, len(own), others),
            *(f"{np.median(widths):.1%}" if widths else "–", f"{min(loads):.1f} to {max(loads):.1f}"),
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
