"""Measure the decompositions: one attention per stage, the whole network, growth with the pixels, 16 bits.

    python -m benchmarks.decompositions.run --out build/decompositions
    python -m benchmarks.decompositions.run --out build/decompositions --only network --rounds 60

One thread, batch 1. Writes decompositions.json; ``plot.py`` draws docs/decompositions.svg from it.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import torch

from benchmarks.decompositions.graphs import (
    as_model,
    cosine,
    decompose_layer_norms,
    normalized,
    ours,
    untouched,
    with_softmax_attention,
)
from benchmarks.decompositions.race import compare, geometric_mean, interleave, race, speedups
from examples.other_attention.model import FusedAttention
from linglos_deploy.artifacts import TorchModel, open_onnx
from linglos_deploy.choices import Precision
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.decompositions.rewrite import Request, rewrite_attention
from linglos_deploy.exporters.precision import BFLOAT16_OPSET, KINDS, convert_precision
from linglos_deploy.exporters.retype import PlainConstants, RetypeFloats
from linglos_deploy.exporters.rounding import with_explicit_rounding
from linglos_deploy.exporters.tracing import quiet_exporter
from linglos_deploy.graph.opset import to_opset
from linglos_deploy.graph.passes.running import run_passes
from linglos_deploy.models.linglo import KeyOnlyAttention, LinGlo
from linglos_deploy.models.loading import ModelSource, load_model
from linglos_deploy.models.variants import VARIANTS, head_count

SIZES = (224, 320, 448, 640, 896)
STARTS = 8
"""One attention takes a tenth of a millisecond: its time differs more between processes than within one."""
SOFTMAX_SIZES = (224, 320, 448)
"""At 640 the softmax attention of the first stage alone would hold 2.6 GB of weights."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--variant", default="s", choices=VARIANTS)
    parser.add_argument("--only", choices=PARTS, action="append")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "decompositions.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.only or PARTS:
            results[name] = PARTS[name](options.variant, Path(scratch), options.rounds)
            path.write_text(json.dumps(results, indent=1) + "\n")


def linglo(variant: str, size: int) -> TorchModel:
    torch.manual_seed(0)
    return as_model(normalized(LinGlo(VARIANTS[variant])), size=(size, size))


def attention(variant: str, scratch: Path, rounds: int) -> dict[str, object]:
    """One attention at each stage at 224 x 224: every form against the module as written."""
    return _stages("attention", KeyOnlyAttention, lambda c, n: (1, c, n, n), variant, scratch, rounds)


def foreign(variant: str, scratch: Path, rounds: int) -> dict[str, object]:
    """The same for attention that somebody else wrote: tokens, a fused key-value projection, no biases."""
    return _stages("foreign", FusedAttention, lambda c, n: (1, n * n, c), variant, scratch, rounds)


def _stages(
    title: str,
    kind: Callable[[int, int], torch.nn.Module],
    shape_of: Callable[[int, int], tuple[int, ...]],
    variant: str,
    scratch: Path,
    rounds: int,
) -> dict[str, object]:
    rows: dict[str, object] = {}
    ratios = []
    for stage, channels in enumerate(VARIANTS[variant].dims):
        positions = 56 >> stage
        shape = shape_of(channels, positions)

        def graph(form: str | None, channels: int = channels, shape: tuple[int, ...] = shape) -> Path:
            torch.manual_seed(0)
            module = torch.nn.Sequential(normalized(kind(channels, head_count(channels))))
            if form is not None:
                (record,) = rewrite_attention(module, {"input": torch.randn(shape)}, Request(form))
                if record.form == "reference":
                    raise RuntimeError(f"the attention was not rewritten: {record.reason}")
            return untouched(module.eval(), shape, scratch / f"{form or 'reference'}.onnx")

        graphs = {"reference": graph(None)}
        for form in ("auto", "pooled", "reassociated"):
            graphs[str(form)] = graph(form)
        samples = np.concatenate(
            [
                interleave(graphs, runtime="onnxruntime", shape=shape, rounds=max(1, rounds // STARTS), runs=40)
                for _ in range(STARTS)
            ]
        )
        results = compare(tuple(graphs), samples, starts=STARTS)
        rows[f"stage {stage}: C {channels}, {positions} x {positions}"] = {k: asdict(v) for k, v in results.items()}
        ratios.append(speedups(samples, tuple(graphs).index("auto")))
        print(f"{title}, stage {stage}: auto {results['auto'].speedup:.2f}", flush=True)
    mean, interval = geometric_mean(ratios, starts=STARTS)
    print(f"{title}, geometric mean {mean:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]", flush=True)
    return {"stages": rows, "geometric_mean": mean, "interval": interval}


def network(variant: str, scratch: Path, rounds: int) -> dict[str, object]:
    """The whole network against the untouched module through torch.onnx.export and onnxsim."""
    rows: dict[str, object] = {}
    for size in (224, 512):
        model, shape = linglo(variant, size), (1, 3, size, size)
        graphs = {"untouched": untouched(model.module, shape, scratch / f"untouched_{size}.onnx")}
        for form in ("auto", "pooled", "reassociated"):
            graphs[str(form)] = ours(model, scratch / f"{form}_{size}.onnx", ExportConfig(decomposition=form))
        for runtime in ("onnxruntime", "openvino"):
            results = race(graphs, runtime=runtime, shape=shape, rounds=rounds, runs=3 if size < 400 else 1)
            rows[f"{runtime} {size}"] = {name: asdict(result) for name, result in results.items()}
            auto = results["auto"]
            print(f"{runtime} {size}: auto {auto.speedup:.3f} [{auto.low:.3f}, {auto.high:.3f}]", flush=True)
    return rows


def scaling(variant: str, scratch: Path, rounds: int) -> dict[str, object]:
    """Latency and peak memory against pixels, beside softmax attention of equal width."""
    rows: dict[str, object] = {}
    torch.manual_seed(0)
    plain = as_model(with_softmax_attention(LinGlo(VARIANTS[variant])), size=(448, 448))
    dynamic = ExportConfig(dynamic=True)
    candidates = {
        "linglo": ours(linglo(variant, 448), scratch / "linglo.onnx", dynamic),
        "softmax": ours(plain, scratch / "softmax.onnx", dynamic),
    }
    for size in SIZES:
        shape = (1, 3, size, size)
        graphs = {name: path for name, path in candidates.items() if name == "linglo" or size in SOFTMAX_SIZES}
        results = race(graphs, runtime="onnxruntime", shape=shape, rounds=max(5, rounds // 8), runs=1)
        rows[str(size)] = {name: asdict(result) for name, result in results.items()}
        print(size, {name: (r.milliseconds, r.peak_mebibytes) for name, r in results.items()}, flush=True)
    slopes = {
        what: {name: _slope(rows, name, what) for name in ("linglo", "softmax")}
        for what in ("milliseconds", "peak_mebibytes")
    }
    print(slopes, flush=True)
    return {"sizes": rows, "slopes": slopes}


def _slope(rows: dict[str, object], name: str, what: str) -> float:
    """Slope of the least-squares line through log(value) over log(pixels)."""
    points = [(2 * math.log(int(size)), math.log(row[name][what])) for size, row in rows.items() if name in row]  # type: ignore[index,operator]
    return float(np.polyfit(*zip(*points, strict=True), 1)[0])


def sixteen(variant: str, scratch: Path, rounds: int) -> dict[str, object]:
    """Every variant in 16 bits, ours and naive, with rounding made explicit."""
    del variant, rounds
    import onnxruntime

    def run(graph: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
        onnx.save(graph, scratch / "graph.onnx")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(scratch / "graph.onnx", options, providers=["CPUExecutionProvider"])
        logits: np.ndarray = session.run(None, {"image": image})[0]
        return logits

    generator = np.random.default_rng(0)
    rows: dict[str, object] = {}
    for name in VARIANTS:
        model = load_model(ModelSource(variant=name))
        config = ExportConfig(dynamic=True, precision=Precision.FP16)
        source = open_onnx(ours(model, scratch / f"{name}.onnx", config))
        plain = ours(model, scratch / f"{name}.reference.onnx", ExportConfig(dynamic=True, decomposition="reference"))
        graphs = {}
        for precision, kind in KINDS.items():
            typed = convert_precision(source, precision, out=scratch / f"{name}.{precision}.onnx")
            graphs[str(precision)] = with_explicit_rounding(onnx.load(typed.path))
            everything = RetypeFloats(kind, islands=lambda model, kind: {})
            decomposed = to_opset(decompose_layer_norms(onnx.load(plain)), BFLOAT16_OPSET)
            naive = run_passes(onnx.shape_inference.infer_shapes(decomposed), PlainConstants(), everything)
            graphs[f"naive {precision}"] = with_explicit_rounding(naive)
        images = {
            "224": generator.standard_normal((1, 3, 224, 224)).astype(np.float32),
            "224, scaled by 100": 100 * generator.standard_normal((1, 3, 224, 224)).astype(np.float32),
            "1024": generator.standard_normal((1, 3, 1024, 1024)).astype(np.float32),
        }
        for title, image in images.items():
            expected = run(onnx.load(source.path), image)
            found = {kind: cosine(expected, run(graph, image)) for kind, graph in graphs.items()}
            rows[f"{name}, {title}"] = found
            print(name, title, {kind: round(value, 6) for kind, value in found.items()}, flush=True)
    return rows


def export(variant: str, scratch: Path, rounds: int) -> dict[str, object]:
    """CPU time of the export stage over that of the bare ``torch.onnx.export`` call, in turn in one process."""
    model = linglo(variant, 224)
    bare: list[float] = []
    stage: list[float] = []
    for _ in range(1 + max(2, rounds // 10)):  # the first round loads what both need
        start = time.process_time()
        with quiet_exporter():
            torch.onnx.export(
                model.module,
                (torch.zeros(2, 3, 224, 224),),
                dynamo=True,
                opset_version=20,
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                verbose=False,
            )
        middle = time.process_time()
        ours(model, scratch / "stage.onnx")
        bare.append(middle - start)
        stage.append(time.process_time() - middle)
    ratios = [ours_ / bare_ for ours_, bare_ in zip(stage[1:], bare[1:], strict=True)]
    print(f"export: {median(stage[1:]):.1f} s, {median(ratios):.2f} of the bare call", flush=True)
    return {"seconds": median(stage[1:]), "bare_seconds": median(bare[1:]), "ratio": median(ratios)}


PARTS = {
    "export": export,
    "attention": attention,
    "foreign": foreign,
    "network": network,
    "scaling": scaling,
    "sixteen": sixteen,
}


if __name__ == "__main__":
    main()
