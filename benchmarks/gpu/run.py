"""Build, run, check and measure every precision of every variant on this machine's GPU.

    python benchmarks/gpu/run.py --out build/gpu
    python benchmarks/gpu/run.py --variants s --precisions fp16,int8+fp16 --batches 1,8

Needs an NVIDIA GPU, torch with CUDA, cuda-python, and TensorRT, TensorRT-RTX or both; 'linglos-deploy doctor' says
what is missing. For each variant: PyTorch eager and torch.compile, and every engine in every precision, in one process,
in interleaved rounds, host memory to host memory. Every engine is first checked against PyTorch. Writes gpu.json and
gpu.md.

Not yet run on a GPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from linglos_deploy.artifacts import EngineArtifact, OnnxArtifact, TorchModel, open_onnx, tool_versions
from linglos_deploy.backends import registry
from linglos_deploy.backends.base import Device
from linglos_deploy.backends.machine import describe_machine
from linglos_deploy.backends.pytorch import PyTorch
from linglos_deploy.choices import Precision
from linglos_deploy.codec import write_json
from linglos_deploy.engines.options import EngineOptions
from linglos_deploy.engines.record import read_record
from linglos_deploy.engines.registry import compiler
from linglos_deploy.errors import LinglosError, MissingDependencyError
from linglos_deploy.models.loading import ModelSource, load_model
from linglos_deploy.parity.recording import record
from linglos_deploy.parity.verdict import Criteria, check_parity
from linglos_deploy.pipeline import ExportRequest, export_bundle
from linglos_deploy.reports.doctor import Machine
from linglos_deploy.signature import Batch

VARIANTS = ("t", "s", "m", "b")
PRECISIONS = tuple(str(precision) for precision in Precision)
BACKENDS = ("tensorrt", "tensorrt-rtx")
PARITY_BATCH = 8

Call = Callable[[np.ndarray], object]
"""Takes a batch of images on the host, returns when the outputs are on the host."""


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate at one batch size.

    Attributes:
        variant: Of the model.
        candidate: What ran: ``torch eager fp32``, ``torch compile fp16``, ``tensorrt int8+fp16``, and so on.
        batch: Images a run.
        p50_ms: Median time of a run, in milliseconds.
        p90_ms: 90th percentile.
        p99_ms: 99th percentile.
        images_per_second: Batch over median.
        speedup: Median of ``torch eager fp32`` at that batch, over this median.
    """

    variant: str
    candidate: str
    batch: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    images_per_second: float
    speedup: float


@dataclass(frozen=True, slots=True)
class Check:
    """One engine against PyTorch.

    Attributes:
        variant: Of the model.
        candidate: The engine.
        passed: Whether it is close enough.
        cosine: Of its first output.
        detail: What the inspector said, or why there is no engine.
        build_seconds: Time of the build, or of the copy from the cache.
    """

    variant: str
    candidate: str
    passed: bool
    cosine: float | None
    detail: str
    build_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Results:
    """Everything, with the machine named."""

    machine: Machine
    tools: dict[str, str]
    checks: tuple[Check, ...]
    rows: tuple[Row, ...]


def main(argv: Sequence[str] | None = None) -> int:
    options = _parse(argv)
    try:
        machine = require_gpu()
        results = run(options, machine)
    except LinglosError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(results, options.out / "gpu.json")
    (options.out / "gpu.md").write_text(render(results), encoding="utf-8")
    print(render(results))
    return 0 if all(check.passed for check in results.checks) else 1


def require_gpu() -> Machine:
    """Return this machine.

    Raises:
        MissingDependencyError: It has no GPU, or torch cannot use it.
    """
    machine = describe_machine()
    if not machine.gpus:
        raise MissingDependencyError(
            "This benchmark needs an NVIDIA GPU.",
            found=machine.gpu_detail,
            next_step="run it on a machine that has one; benchmarks/engines needs none",
        )
    import torch

    if not torch.cuda.is_available():
        raise MissingDependencyError(
            "torch cannot use the GPU.", found=f"torch {torch.__version__}", next_step="install torch with CUDA"
        )
    return machine


def run(options: argparse.Namespace, machine: Machine) -> Results:
    """Measure all variants."""
    usable = [name for name in BACKENDS if (probe := registry.probe(name)).compiles and probe.runs]
    if not usable:
        raise MissingDependencyError(
            "Neither TensorRT nor TensorRT-RTX can be used here.", next_step="see 'linglos-deploy doctor'"
        )
    checks: list[Check] = []
    rows: list[Row] = []
    for variant in options.variants:
        model = load_model(ModelSource(variant=variant))
        with ExitStack() as stack, tempfile.TemporaryDirectory() as scratch:
            candidates: dict[str, Call] = {}
            for precision in ("fp32", "fp16"):
                for mode in ("eager", "compile"):
                    candidates[f"torch {mode} {precision}"] = torch_call(model, precision, compiled=mode == "compile")
            for precision in options.precisions:
                graph = export_graph(variant, precision, folder=Path(scratch))
                for backend in usable:
                    name = f"{backend} {precision}"
                    _say(f"{variant}: {name}")
                    check, call = stack.enter_context(
                        engine_call(model, graph, backend, Precision(precision), options, folder=Path(scratch))
                    )
                    checks.append(check)
                    if call is not None:
                        candidates[name] = call
            height, width = model.preprocess.input_size
            for batch in options.batches:
                images = np.random.default_rng(0).standard_normal((batch, 3, height, width), dtype=np.float32)
                times = time_interleaved(candidates, images, rounds=options.rounds, runs=options.runs)
                rows += summarize(variant, batch, times)
    tools = tool_versions("torch", "tensorrt", "tensorrt-rtx-cu13", "cuda-python", "linglos-deploy", "onnx")
    return Results(machine, tools, tuple(checks), tuple(rows))


def export_graph(variant: str, precision: str, *, folder: Path) -> OnnxArtifact:
    """Export a variant with synthetic weights in one precision, as the command line would."""
    request = ExportRequest(
        source=ModelSource(variant=variant),
        folder=folder,
        name=f"linglo_{variant}.{precision.replace('+', '-')}",
        precision=Precision(precision),
        engine="none",
        measure_latency=False,
    )
    report = export_bundle(request)
    return open_onnx(Path(report.bundle) / list(report.graphs)[-1])


@contextmanager
def engine_call(
    model: TorchModel,
    graph: OnnxArtifact,
    backend: str,
    precision: Precision,
    options: argparse.Namespace,
    *,
    folder: Path,
) -> Iterator[tuple[Check, Call | None]]:
    """Build an engine, check it against PyTorch, and yield the check with a call that runs it."""
    name = f"{backend} {precision}"
    largest = max(*options.batches, PARITY_BATCH)
    spec = EngineOptions(batch_profiles=((1, 1, 1), (1, min(8, largest), largest))).spec(
        graph.signature, nominal_size=model.preprocess.input_size, divisor=model.size_divisor, backend=backend
    )
    with ExitStack() as stack:
        started = time.monotonic()
        try:
            engine = compiler(backend).compile(graph, spec, out=folder / f"{graph.digest[:12]}.{backend}.engine")
            seconds = time.monotonic() - started
            runner = stack.enter_context(registry.runtime(backend).open(engine, device=Device("cuda", 0)))
            check = check_engine(model, engine, runner, precision, folder=folder, name=name, seconds=seconds)
        except LinglosError as error:
            yield Check(model.name, name, passed=False, cosine=None, detail=str(error)), None
            return
        dtype = np.dtype(engine.signature.inputs[0].dtype)
        key = engine.signature.inputs[0].name
        yield check, lambda images: runner.run({key: images.astype(dtype, copy=False)})


def check_engine(
    model: TorchModel,
    engine: EngineArtifact,
    runner: Any,
    precision: Precision,
    *,
    folder: Path,
    name: str,
    seconds: float,
) -> Check:
    """Compare an engine with PyTorch on the CPU."""
    batches = parity_batches(model)
    with PyTorch().open(model) as reference:
        recording = record(reference, batches, out=folder / f"{name.replace(' ', '-')}.reference", source="PyTorch")
    dtype = np.dtype(engine.signature.inputs[0].dtype)
    report = check_parity(
        recording,
        runner,
        Criteria.for_precision(precision),
        batches=[{key: images.astype(dtype, copy=False) for key, images in batch.items()} for batch in batches],
        same_inputs=dtype == np.float32,
        name=name,
    )
    proof = read_record(engine.path).precision
    return Check(model.name, name, report.passed, report.outputs[0].metrics.cosine, proof.detail, seconds)


def parity_batches(model: TorchModel) -> list[Batch]:
    """Return the images that engines are checked on."""
    height, width = model.preprocess.input_size
    generator = np.random.default_rng(1)
    return [{"image": generator.standard_normal((PARITY_BATCH, 3, height, width), dtype=np.float32)} for _ in range(4)]


def torch_call(model: TorchModel, precision: str, *, compiled: bool) -> Call:
    """Return a call that runs the PyTorch model on the GPU, host to host, through page-locked memory."""
    import copy

    import torch

    dtype = {"fp32": torch.float32, "fp16": torch.float16}[precision]
    module: Any = copy.deepcopy(model.module).to("cuda", dtype=dtype).eval()
    if compiled:
        module = torch.compile(module)

    def call(images: np.ndarray) -> object:
        with torch.inference_mode():
            host = torch.from_numpy(images).pin_memory()
            outputs = module(host.to("cuda", dtype=dtype, non_blocking=True))
            if not isinstance(outputs, tuple):
                outputs = (outputs,)
            return [output.float().cpu().numpy() for output in outputs]

    return call


def time_interleaved(
    candidates: dict[str, Call], images: np.ndarray, *, rounds: int, runs: int
) -> dict[str, list[float]]:
    """Let the candidates take turns, so that a change of clocks meets all of them; seconds of each timed run."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for call in candidates.values():
        for _ in range(3):
            call(images)
    for _ in range(rounds):
        for name, call in candidates.items():
            call(images)
            for _ in range(runs):
                started = time.perf_counter()
                call(images)
                times[name].append(time.perf_counter() - started)
    return times


def summarize(variant: str, batch: int, times: dict[str, list[float]]) -> list[Row]:
    """Return one row per candidate, the first candidate being the one that speed-ups refer to."""
    medians = {name: float(np.median(values)) for name, values in times.items()}
    base = next(iter(medians.values()))
    rows = []
    for name, values in times.items():
        p50, p90, p99 = (float(value) * 1e3 for value in np.percentile(values, (50, 90, 99)))
        rows.append(Row(variant, name, batch, p50, p90, p99, batch / medians[name], base / medians[name]))
    return rows


def render(results: Results) -> str:
    """Return the results as Markdown."""
    gpus = ", ".join(f"{gpu.name} (compute capability {gpu.compute_capability})" for gpu in results.machine.gpus)
    tools = ", ".join(f"{name} {version}" for name, version in results.tools.items())
    lines = [f"{gpus or 'no GPU'}, driver {results.machine.driver}; {tools}", ""]
    lines += ["| variant | engine | parity | cosine | build s | layers |", "|---|---|---|---:|---:|---|"]
    for check in results.checks:
        cosine = "" if check.cosine is None else f"{check.cosine:.6f}"
        verdict = "passed" if check.passed else "failed"
        first = check.detail.splitlines()[0] if check.detail else ""
        lines.append(
            f"| {check.variant} | {check.candidate} | {verdict} | {cosine} | {check.build_seconds:.1f} | {first} |"
        )
    lines += ["", "| variant | batch | candidate | p50 ms | p90 ms | p99 ms | images/s | speed-up |"]
    lines += ["|---|---:|---|---:|---:|---:|---:|---:|"]
    lines += [
        f"| {row.variant} | {row.batch} | {row.candidate} | {row.p50_ms:.3f} | {row.p90_ms:.3f} | {row.p99_ms:.3f} | "
        f"{row.images_per_second:.0f} | {row.speedup:.2f} |"
        for row in results.rows
    ]
    return "\n".join(lines) + "\n"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _names(text: str) -> Iterable[str]:
    return text.split(",")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/gpu"), help="folder for the results")
    parser.add_argument("--variants", type=_names, default=VARIANTS)
    parser.add_argument("--precisions", type=_names, default=PRECISIONS)
    parser.add_argument("--batches", type=_numbers, default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=8, help="how often the candidates take turns")
    parser.add_argument("--runs", type=int, default=50, help="timed runs of a candidate in each turn")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
