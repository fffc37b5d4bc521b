"""Build TensorRT-RTX engines of every variant, precision and kind of shape, twice each, and check what comes out.

    python benchmarks/engines/matrix.py --out build/engines
    python benchmarks/engines/matrix.py --variants s --precisions int8+fp16 --shapes fixed

Needs no GPU. Each bundle is made by the library's own export; an engine is built from its graph twice, with an empty
cache at first. The second one must come from the cache, with the same bytes, in less than a tenth of the time. Writes
engines.json and engines.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from linglos_deploy.artifacts import open_onnx
from linglos_deploy.backends.registry import compiler
from linglos_deploy.backends.trt.sidecar import log_path, read_record
from linglos_deploy.choices import EngineChoice, Precision
from linglos_deploy.engines import EngineOptions
from linglos_deploy.errors import LinglosError
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.files import sha256_file
from linglos_deploy.models.loading import ModelSource
from linglos_deploy.pipeline import ExportRequest, export_bundle
from linglos_deploy.reports.codec import write_json

VARIANTS = ("t", "s", "m", "b")
PRECISIONS = tuple(str(precision) for precision in Precision)
SHAPES = ("fixed", "dynamic")
PROFILES = ((1, 1, 1), (1, 8, 32))
ASKED = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8", "int8+fp16": "int8"}
FASTER = 10
"""A build from the cache must be at least this many times faster."""


@dataclass(frozen=True, slots=True)
class Row:
    """One engine.

    Attributes:
        variant: Of the model.
        precision: Of its graph.
        shapes: ``fixed`` or ``dynamic`` height and width; the batch is always dynamic, with two profiles.
        build_seconds: Time of the build.
        cached_seconds: Time of the second one.
        engine_bytes: Size of the plan.
        graph_bytes: Size of the graph.
        expected: Precisions that the graph asks for.
        passed: Whether sidecar, digest, log and cache are as they should be.
        detail: What is not, or what the vendor said.
    """

    variant: str
    precision: str
    shapes: str
    build_seconds: float = 0.0
    cached_seconds: float = 0.0
    engine_bytes: int = 0
    graph_bytes: int = 0
    expected: tuple[str, ...] = ()
    passed: bool = False
    detail: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    options = _parse(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for variant in options.variants:
        for precision in options.precisions:
            for shapes in options.shapes:
                row = measure(variant, precision, shapes, imgsz=options.imgsz, out=options.out)
                print(_line(row), file=sys.stderr, flush=True)
                rows.append(row)
    write_json(rows, options.out / "engines.json")
    (options.out / "engines.md").write_text(render(rows), encoding="utf-8")
    print(render(rows))
    return 0 if all(row.passed for row in rows) else 1


def measure(variant: str, precision: str, shapes: str, *, imgsz: int | None, out: Path) -> Row:
    """Make one bundle and build its engine a second time."""
    request = ExportRequest(
        source=ModelSource(variant=variant, image_size=None if imgsz is None else (imgsz, imgsz)),
        folder=out,
        name=f"linglo_{variant}.{precision.replace('+', '-')}.{shapes}",
        replace=True,
        graph=ExportConfig(dynamic=shapes == "dynamic"),
        precision=Precision(precision),
        engine=EngineChoice.NONE,
        calibration_images=8,
        parity_images=8,
        measure_latency=False,
    )
    try:
        report = export_bundle(request)
        folder = Path(report.bundle)
        graph = open_onnx(folder / list(report.graphs)[-1])
        height, width = (imgsz, imgsz) if imgsz else (224, 224)
        options = EngineOptions(batch_profiles=PROFILES)
        spec = options.spec(graph.signature, nominal_size=(height, width), divisor=32, backend="tensorrt-rtx")
        with tempfile.TemporaryDirectory() as cache:
            backend = compiler("tensorrt-rtx", cache_dir=Path(cache))
            plans = [out / f"{request.name}.engine", out / f"{request.name}.again.engine"]
            seconds = []
            for plan in plans:
                started = time.monotonic()
                backend.compile(graph, spec, out=plan)
                seconds.append(time.monotonic() - started)
    except LinglosError as error:
        return Row(variant, precision, shapes, detail=str(error))
    record = read_record(plans[0])
    problems = [
        name
        for name, fine in (
            ("digest", record.digest == sha256_file(plans[0]) == sha256_file(plans[1])),
            (f"no {ASKED[precision]} in the graph", ASKED[precision] in record.precision.expected),
            ("log", log_path(plans[0]).stat().st_size > 0),
            ("two profiles", len(record.spec.profiles) == len(PROFILES)),
            (f"cache not {FASTER} times faster", seconds[1] * FASTER < seconds[0]),
        )
        if not fine
    ]
    return Row(
        variant=variant,
        precision=precision,
        shapes=shapes,
        build_seconds=seconds[0],
        cached_seconds=seconds[1],
        engine_bytes=record.bytes,
        graph_bytes=graph.path.stat().st_size,
        expected=record.precision.expected,
        passed=not problems,
        detail=", ".join(problems),
    )


def render(rows: Iterable[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| variant | precision | shapes | graph asks for | build s | cached s | graph MB | engine MB | |",
        "|---|---|---|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        verdict = "ok" if row.passed else row.detail.splitlines()[0]
        lines.append(
            f"| {row.variant} | {row.precision} | {row.shapes} | {', '.join(row.expected)} | {row.build_seconds:.2f} | "
            f"{row.cached_seconds:.2f} | {row.graph_bytes / 1e6:.1f} | {row.engine_bytes / 1e6:.1f} | {verdict} |"
        )
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    verdict = "ok" if row.passed else row.detail
    return (
        f"{row.variant} {row.precision} {row.shapes}: {row.build_seconds:.2f} s, {row.cached_seconds:.2f} s, {verdict}"
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/engines"), help="folder for bundles and results")
    parser.add_argument("--variants", type=lambda text: text.split(","), default=VARIANTS)
    parser.add_argument("--precisions", type=lambda text: text.split(","), default=PRECISIONS)
    parser.add_argument("--shapes", type=lambda text: text.split(","), default=SHAPES)
    parser.add_argument("--imgsz", type=int, default=None, help="image size; the variant's own by default")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
