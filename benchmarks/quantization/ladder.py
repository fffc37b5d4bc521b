"""What each step of a placement gives: the same plan in several forms, one thread, in turns, in one process.

    python benchmarks/quantization/ladder.py --variant s --image-size 224 --rounds 60

Candidates take turns in short rounds, forwards and backwards, so that whatever else the machine does meets all of them.
Two figures are told of each: the ratio of the fastest runs, which a busy machine disturbs least, and the median of the
ratios of rounds. Trust them where they agree. Answers are compared with the float32 graph's on images that calibration
did not see.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.artifacts import OnnxArtifact, load_onnx, open_onnx
from linglos_deploy.backends.compilers.openvino import OpenVino
from linglos_deploy.backends.cpu import Int8Mode, this_cpu
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.calibration.calibrate import calibrate
from linglos_deploy.choices import Precision
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.export import export_onnx
from linglos_deploy.images.dataset import synthetic_dataset
from linglos_deploy.models.loading import ModelSource, load_model
from linglos_deploy.quantization.apply import apply_plan
from linglos_deploy.quantization.placement import Placement, find_placement
from linglos_deploy.quantization.plan import QuantPlan, plan_quantization
from linglos_deploy.quantization.scheme import QuantScheme

CALIBRATED, CHECKED = 32, 16
Run = Callable[[Mapping[str, np.ndarray]], object]


@dataclass(frozen=True, slots=True)
class Row:
    """One step.

    Attributes:
        runtime: What ran it.
        step: What it is.
        fastest_ms: Its fastest run.
        fastest_ratio: That over the fastest run of float32 on the same runtime.
        median_ratio: Median over rounds of its time over that of float32 in the same round.
        sqnr_db: SQNR of its logits against the float32 graph's; infinite for that itself.
    """

    runtime: str
    step: str
    fastest_ms: float
    fastest_ratio: float
    median_ratio: float
    sqnr_db: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", default="s")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        graph, plan, images = prepare(options.variant, options.image_size, folder)
        rows = [
            *race("ONNX Runtime", dict(onnxruntime_steps(graph, plan, images, folder)), images, options),
            *race("OpenVINO", dict(openvino_steps(graph, plan, folder)), images, options),
        ]
    print(table(rows))
    if options.json is not None:
        told = {"cpu": this_cpu().model, "threads": options.threads, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(told, indent=2) + "\n")


def prepare(variant: str, size: int, folder: Path) -> tuple[OnnxArtifact, QuantPlan, np.ndarray]:
    """Export, calibrate and plan; return images that calibration did not see."""
    model = load_model(ModelSource(variant=variant, image_size=(size, size)))
    graph = export_onnx(model, ExportConfig(precision=Precision.INT8, batch=None), out=folder / "model.onnx")
    assert model.preprocess is not None
    data = synthetic_dataset(model.preprocess, CALIBRATED, 0)
    seen = calibrate(graph, data, runtime=OnnxRuntime(threads=1, reuse_outputs=True))
    unseen = synthetic_dataset(model.preprocess, CHECKED, 1)
    images = np.concatenate([batch["image"] for batch in unseen.batches(8)])
    return graph, plan_quantization(graph, seen, QuantScheme()), images


def onnxruntime_steps(
    graph: OnnxArtifact, plan: QuantPlan, images: np.ndarray, folder: Path
) -> Iterator[tuple[str, tuple[object, OnnxArtifact]]]:
    """Yield the ladder for ONNX Runtime."""
    runtime = OnnxRuntime(threads=1, int8=Int8Mode.SAFE)
    x86 = find_placement("onnxruntime-x86")
    yield "float32", (runtime, graph)

    def placed(name: str, placement: Placement) -> OnnxArtifact:
        return apply_plan(graph, plan, out=folder / f"{name}.onnx", placement=placement)

    yield "pairs in front, symmetric int8 (`tensorrt`)", (runtime, placed("front", find_placement("tensorrt")))
    yield (
        "pairs on both sides, int8",
        (runtime, placed("int8", replace(find_placement("onnxruntime-arm"), biases=frozenset()))),
    )
    yield "uint8", (runtime, placed("uint8", replace(x86, biases=frozenset())))
    best = placed("x86", x86)
    yield "INT32 biases (`onnxruntime-x86`)", (runtime, best)
    yield "and residual sums in integers", (runtime, with_integer_sums(best, graph, images, folder / "sums.onnx"))
    yield "and GELU as a table of 256, by Gather", (runtime, with_tables(best, folder / "tables.onnx"))


def openvino_steps(
    graph: OnnxArtifact, plan: QuantPlan, folder: Path
) -> Iterator[tuple[str, tuple[object, OnnxArtifact]]]:
    """Yield the ladder for OpenVINO."""
    runtime = OpenVino(threads=1, int8=Int8Mode.SAFE, cache=False)
    yield "float32", (runtime, graph)
    for name, step in (
        ("tensorrt", "pairs in front, symmetric int8 (`tensorrt`)"),
        ("openvino", "uint8 with zero points (`openvino`)"),
        ("onnxruntime-x86", "pairs on both sides (`onnxruntime-x86`)"),
    ):
        yield step, (runtime, apply_plan(graph, plan, out=folder / f"ov.{name}.onnx", placement=find_placement(name)))


def race(
    name: str, steps: Mapping[str, tuple[object, OnnxArtifact]], images: np.ndarray, options: argparse.Namespace
) -> list[Row]:
    """Measure steps in turns; the first is what the others are compared with."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        runners = {
            step: stack.enter_context(replaced_threads(runtime, options.threads).open(graph))  # type: ignore[attr-defined]
            for step, (runtime, graph) in steps.items()
        }
        answers = {
            step: np.array(next(iter(runner.run({"image": images}).values()))) for step, runner in runners.items()
        }
        feed = {"image": images[:1].copy()}
        times: dict[str, list[float]] = {step: [] for step in runners}
        for runner in runners.values():
            runner.run(feed)
        for number in range(options.rounds):
            for step in list(runners)[:: 1 if number % 2 else -1]:
                runners[step].run(feed)
                times[step].append(min(timed(runners[step].run, feed) for _ in range(3)))
    base = next(iter(steps))
    return [
        Row(
            runtime=name,
            step=step,
            fastest_ms=min(found),
            fastest_ratio=min(found) / min(times[base]),
            median_ratio=statistics.median(a / b for a, b in zip(found, times[base], strict=True)),
            sqnr_db=sqnr(answers[base], answers[step]),
        )
        for step, found in times.items()
    ]


def replaced_threads(runtime: object, threads: int) -> object:
    if isinstance(runtime, OnnxRuntime):
        return OnnxRuntime(threads=threads, int8=runtime.int8)
    assert isinstance(runtime, OpenVino)
    return replace(runtime, threads=threads)


def timed(run: Run, feed: Mapping[str, np.ndarray]) -> float:
    started = time.perf_counter()
    run(feed)
    return 1e3 * (time.perf_counter() - started)


def sqnr(exact: np.ndarray, found: np.ndarray) -> float:
    noise = float(((exact.astype(np.float64) - found) ** 2).sum())
    return 10 * math.log10(float((exact.astype(np.float64) ** 2).sum()) / noise) if noise else math.inf


def with_integer_sums(graph: OnnxArtifact, original: OnnxArtifact, images: np.ndarray, out: Path) -> OnnxArtifact:
    """Round both operands and the result of every sum of two activations, so that ONNX Runtime makes a QLinearAdd."""
    model = load_onnx(graph.path)
    plain = {name.removesuffix("/dequantized") for node in model.graph.node for name in node.input}
    fixed = {tensor.name for tensor in model.graph.initializer}
    sums = [it for it in model.graph.node if it.op_type == "Add" and not fixed.intersection(it.input)]
    wanted = {name.removesuffix("/dequantized") for node in sums for name in (*node.input, *node.output)} & plain
    rounded = {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    limits = ranges_of(original, sorted(wanted - rounded), images)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node in sums:
            names = [name.removesuffix("/dequantized") for name in node.input]
            del node.input[:]
            node.input.extend(f"{name}/dequantized" for name in names)
        else:
            for index, name in enumerate(node.input):
                if name in limits and node.op_type != "QuantizeLinear":
                    node.input[index] = f"{name}/dequantized"
        nodes.append(node)
        nodes.extend(pair for name in node.output if name in limits for pair in pair_of(model, name, limits[name]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, out)
    return open_onnx(out)


def ranges_of(graph: OnnxArtifact, names: Sequence[str], images: np.ndarray) -> dict[str, tuple[float, float]]:
    import onnxruntime

    model = load_onnx(graph.path)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(list(names), {"image": images}) if names else []
    return {name: (min(float(it.min()), 0.0), max(float(it.max()), 0.0)) for name, it in zip(names, found, strict=True)}


def pair_of(model: onnx.ModelProto, name: str, limits: tuple[float, float]) -> list[onnx.NodeProto]:
    scale = (limits[1] - limits[0]) / 255
    parameters = {f"{name}/scale": np.float32(scale), f"{name}/zero_point": np.uint8(round(-limits[0] / scale))}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(it), key) for key, it in parameters.items())
    return [
        helper.make_node("QuantizeLinear", [name, *parameters], [f"{name}/uint8"], f"{name}/QuantizeLinear"),
        helper.make_node(
            "DequantizeLinear", [f"{name}/uint8", *parameters], [f"{name}/dequantized"], f"{name}/Dequantize"
        ),
    ]


def with_tables(graph: OnnxArtifact, out: Path) -> OnnxArtifact:
    """Replace Dequantize, Gelu, Quantize by a look-up of 256 entries: exact, in standard operators."""
    model = load_onnx(graph.path)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    gone: list[onnx.NodeProto] = []
    for node in list(model.graph.node):
        behind = readers.get(node.output[0], [])
        before = makers.get(node.input[0]) if node.input else None
        if node.op_type != "Gelu" or before is None or before.op_type != "DequantizeLinear":
            continue
        if [it.op_type for it in behind] != ["QuantizeLinear"]:
            continue
        values = (np.arange(256) - float(stored[before.input[2]])) * float(stored[before.input[1]])
        curve = values * 0.5 * (1 + np.vectorize(math.erf)(values / math.sqrt(2)))
        steps = np.rint(curve / float(stored[behind[0].input[1]])) + float(stored[behind[0].input[2]])
        entries = np.clip(steps, 0, 255).astype(np.uint8)
        model.graph.initializer.append(numpy_helper.from_array(entries, f"{node.name}/table"))
        place = list(model.graph.node).index(behind[0])
        table = [
            helper.make_node(
                "Cast", [before.input[0]], [f"{node.name}/index"], f"{node.name}/Cast", to=TensorProto.INT32
            ),
            helper.make_node(
                "Gather", [f"{node.name}/table", f"{node.name}/index"], [behind[0].output[0]], f"{node.name}/Gather"
            ),
        ]
        for made in reversed(table):
            model.graph.node.insert(place, made)
        gone += [node, behind[0]]
    kept = [node for node in model.graph.node if node not in gone]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    onnx.save(model, out)
    return open_onnx(out)


def table(rows: Sequence[Row]) -> str:
    head = ("runtime", "step", "fastest run, ms", "ratio of the fastest", "median of ratios", "SQNR of the logits")
    return f"| {' | '.join(head)} |\n|{'---|' * len(head)}\n" + "".join(
        f"| {row.runtime} | {row.step} | {row.fastest_ms:.1f} | {row.fastest_ratio:.2f} | {row.median_ratio:.2f} | "
        + ("|\n" if math.isinf(row.sqnr_db) else f"{row.sqnr_db:.1f} dB |\n")
        for row in rows
    )


if __name__ == "__main__":
    main()
