"""Where the time of a run goes: from the profilers of the backends to one table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from linglos_deploy.reports.profile import OperatorTime


def mean_times(runs: Iterable[Iterable[tuple[str, float]]]) -> tuple[OperatorTime, ...]:
    """Add up the nodes of each run by operator type.

    Args:
        runs: For each run, the operator type and the milliseconds of each node that was executed.

    Returns:
        Mean time of each type in one run, largest first.
    """
    calls: Counter[str] = Counter()
    times: Counter[str] = Counter()
    count = 0
    for run in runs:
        count += 1
        for operator, milliseconds in run:
            calls[operator] += 1
            times[operator] += milliseconds  # type: ignore[assignment]  # a Counter adds floats just as well
    total = sum(times.values()) or 1.0
    return tuple(
        OperatorTime(
            operator=operator,
            calls=round(calls[operator] / count),
            milliseconds=milliseconds / count,
            share=milliseconds / total,
        )
        for operator, milliseconds in sorted(times.items(), key=lambda item: (-item[1], item[0]))
    )


def read_onnxruntime_trace(path: Path) -> Iterator[list[tuple[str, float]]]:
    """Read the file that an ONNX Runtime session with ``enable_profiling`` writes; yield the nodes of each run.

    It is a list of Chrome trace events; ``dur`` is in microseconds, ``args.op_name`` is the operator, and an event
    ``model_run`` ends each run (onnxruntime.ai, "Profiling tools").
    """
    nodes: list[tuple[str, float]] = []
    for event in json.loads(path.read_text(encoding="utf-8")):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            nodes.append((event["args"]["op_name"], event["dur"] / 1e3))
        elif event.get("name") == "model_run":
            yield nodes
            nodes = []
