"""Where the time of a run goes: from the profilers of the runtimes to one form."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from linglos_deploy.artifacts import OnnxArtifact, load_onnx
from linglos_deploy.errors import RunError
from linglos_deploy.reports.profile import LayerProfile, LayerTime


@dataclass(frozen=True, slots=True)
class Executed:
    """One step that a runtime executed in one run.

    Attributes:
        name: What the runtime calls it.
        operator: What it does, such as ``Conv``.
        dtype: Type of what it works on, such as ``float32``; empty if the runtime does not say.
        milliseconds: How long it took.
        module: PyTorch module that it belongs to, where the runtime knows it; else it follows from the name.
    """

    name: str
    operator: str
    dtype: str
    milliseconds: float
    module: str = ""


def layer_profile(
    runs: Sequence[Sequence[Executed]], latencies: Sequence[float], *, nodes: Sequence[str] = ()
) -> LayerProfile:
    """Return the layers of a network in the order in which they run.

    The times are means over the quieter half of the runs: means add up to the mean latency, which medians do not, and a
    run that was interrupted would put the pause on whichever layer it met.

    Args:
        runs: What was executed in each run; runs of other steps than the quietest one are left out.
        latencies: How long each run took from outside, in milliseconds.
        nodes: Names of the nodes of the ONNX file, which tell their modules.

    Raises:
        RunError: The runtime did not say what it executed.
    """
    timed_runs = sorted(zip(latencies, runs, strict=True), key=lambda entry: entry[0])
    first = timed_runs[0][1] if timed_runs else []
    if not first:
        raise RunError(
            "The runtime's profiler did not say what was executed.",
            found=f"{len(runs)} runs without layers",
            expected="the time of each layer",
            next_step="measure without the time per layer",
        )
    steps = [(step.name, step.operator) for step in first]
    alike = [entry for entry in timed_runs if [(step.name, step.operator) for step in entry[1]] == steps]
    quiet = alike[: (len(alike) + 1) // 2]
    times = [fmean(run[place].milliseconds for _, run in quiet) for place in range(len(steps))]
    total = sum(times) or 1.0
    layers = tuple(
        LayerTime(step.name, module, step.operator, step.dtype, milliseconds, milliseconds / total)
        for step, module, milliseconds in zip(first, _modules(first, nodes), times, strict=True)
    )
    return LayerProfile(layers, fmean(latency for latency, _ in quiet))


def module_of(node: str) -> str:
    """Return the module of a node of an ONNX file: what stands before the operator.

    >>> module_of("stages.0.1.attention/MatMul"), module_of("/layer1/conv/Conv"), module_of("node_1")
    ('stages.0.1.attention', 'layer1/conv', '')
    """
    return node.rpartition("/")[0].strip("/")


def node_names(artifact: OnnxArtifact) -> list[str]:
    """Return the names of the nodes of an ONNX file."""
    return [node.name for node in load_onnx(artifact.path).graph.node]


def timed(run: Callable[[], object]) -> float:
    """Return the milliseconds that a call takes."""
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) * 1e3


def read_onnxruntime_trace(path: Path) -> Iterator[list[Executed]]:
    """Read the file that an ONNX Runtime session with ``enable_profiling`` writes; yield the steps of each run.

    It is a list of Chrome trace events; ``dur`` is in microseconds, ``args.op_name`` is the operator, and an event
    ``model_run`` ends each run (onnxruntime.ai, "Profiling tools").
    """
    steps: list[Executed] = []
    for event in json.loads(path.read_text(encoding="utf-8")):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name, arguments = event["name"].removesuffix("_kernel_time"), event["args"]
            steps.append(Executed(name, arguments["op_name"], _type(arguments), event["dur"] / 1e3))
        elif event.get("name") == "model_run":
            yield steps
            steps = []


_TYPES = {"float": "float32", "double": "float64"}


def _type(arguments: dict[str, object]) -> str:
    """Return the type of the first input, which ONNX Runtime writes as ``[{"float": [1, 3, 224, 224]}, …]``."""
    inputs = arguments.get("input_type_shape")
    first = next(iter(inputs), None) if isinstance(inputs, list) else None
    name = next(iter(first), "") if isinstance(first, dict) else ""
    return _TYPES.get(name, name)


def _modules(steps: Sequence[Executed], nodes: Sequence[str]) -> list[str]:
    """Return the module of each step.

    A runtime fuses nodes, names what it makes of them after one, and puts in steps of its own, such as changes of
    layout. Those belong to the step that needs them: the next one that has a module.
    """
    longest_first = sorted((name for name in nodes if "/" in name), key=len, reverse=True)
    found = [step.module or _module(step.name, longest_first) for step in steps]
    following = ""
    for place in reversed(range(len(found))):
        following = found[place] = found[place] or following
    previous = ""
    for place, module in enumerate(found):
        previous = found[place] = module or previous
    return found


def _module(name: str, nodes: Sequence[str]) -> str:
    return module_of(node_of(name, nodes))


def node_of(name: str, nodes: Sequence[str]) -> str:
    """Return the node whose name stands last in a step's name; of several there, the longest; empty for none.

    >>> node_of("stem/Conv_nchwc", ["Conv", "stem/Conv"])
    'stem/Conv'
    """
    places = [(name.rfind(node), node) for node in nodes if node in name]
    return max(places, key=lambda entry: (entry[0] + len(entry[1]), len(entry[1])))[1] if places else ""
