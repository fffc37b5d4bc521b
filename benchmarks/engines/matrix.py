"""Build TensorRT-RTX engines of every variant, precision and kind of shape, twice each, and check what comes out.

    python benchmarks/engines/matrix.py
    python benchmarks/engines/matrix.py --variants s --precisions int8+fp16 --shapes fixed --again

Needs no GPU. Every cell is a whole export, engine and all, with an empty cache; the bundle must hold the plan with its
digest, a sidecar and a log. Its graph is then built a second time: that engine must come from the cache, with the same
bytes, in less than a tenth of the time. Writes engines.json and engines.md after every cell. Started again, it measures
only what is missing, failed, or was made by other releases. Exit code 1 if a cell fails.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from linglos_deploy.artifacts import tool_versions
from linglos_deploy.backends.machine import describe_machine
from linglos_deploy.backends.trt import flavour
from linglos_deploy.bundle import open_bundle
from linglos_deploy.choices import Precision
from linglos_deploy.codec import read_json, write_json
from linglos_deploy.engines.compiler import Host
from linglos_deploy.engines.options import EngineOptions
from linglos_deploy.engines.preflight import check_engine
from linglos_deploy.engines.record import log_path, read_record, sidecar_path
from linglos_deploy.engines.sizes import SizeProfile
from linglos_deploy.errors import LinglosError
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.models.loading import ModelSource
from linglos_deploy.pipeline import ExportRequest, export_bundle
from linglos_deploy.reports.export import ExportReport
from linglos_deploy.verbs.build import build_engines

VARIANTS = ("t", "s", "m", "b")
PRECISIONS = tuple(str(precision) for precision in Precision)
SHAPES = ("fixed", "dynamic")
BATCHES = ((1, 1, 1), (1, 8, 32))
SIZES: SizeProfile = ((160, 160), (224, 224), (512, 512))
ASKED = {
    "fp32": {"float32"},
    "fp16": {"float16"},
    "bf16": {"bfloat16"},
    "int8": {"int8"},
    "int8+fp16": {"int8", "float16"},
}
FASTER = 10
"""A build from the cache must be at least this many times faster."""


@dataclass(frozen=True, slots=True)
class Row:
    """One engine.

    Attributes:
        variant: Of the model.
        precision: Of its graph.
        shapes: ``fixed`` or ``dynamic`` height and width; the batch is always dynamic, with two profiles.
        total_seconds: Time of everything: model, graph, ranges, parity, both builds, checks.
        build_seconds: Time of the build alone.
        cached_seconds: Time of the second one.
        engine_bytes: Size of the plan.
        graph_bytes: Size of the graph.
        expected: Precisions that the graph asks for.
        passed: Whether sidecar, digest, log and cache are as they should be.
        detail: What is not, or what the vendor said.
        tools: Releases that made it.
    """

    variant: str
    precision: str
    shapes: str
    total_seconds: float = 0.0
    build_seconds: float = 0.0
    cached_seconds: float = 0.0
    engine_bytes: int = 0
    graph_bytes: int = 0
    expected: tuple[str, ...] = ()
    passed: bool = False
    detail: str = ""
    tools: Mapping[str, str] | None = None

    @property
    def cell(self) -> tuple[str, str, str]:
        """What tells it from the others."""
        return self.variant, self.precision, self.shapes


def main(argv: Sequence[str] | None = None) -> int:
    options = _parse(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        flavour.load(flavour.TENSORRT_RTX)  # its import is no part of the first build
    except LinglosError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    results = options.out / "engines.json"
    tools = tool_versions("linglos-deploy", "tensorrt-rtx-cu13", "torch", "onnx")
    rows = {row.cell: row for row in (read_json(list[Row], results) if results.is_file() else [])}
    asked = [
        cell for cell in _cells() if all(part in chosen for part, chosen in zip(cell, _chosen(options), strict=True))
    ]
    for cell in asked:
        known = rows.get(cell)
        if known is not None and known.passed and known.tools == tools and not options.again:
            continue
        with tempfile.TemporaryDirectory(prefix="linglos-matrix-") as scratch:
            rows[cell] = measure(*cell, imgsz=options.imgsz, folder=Path(scratch), tools=tools)
        print(_line(rows[cell]), file=sys.stderr, flush=True)
        ordered = [rows[name] for name in _cells() if name in rows]
        write_json(ordered, results)
        (options.out / "engines.md").write_text(render(ordered), encoding="utf-8")
    print(render([rows[cell] for cell in asked]), end="")
    return 0 if all(rows[cell].passed for cell in asked) else 1


def measure(
    variant: str, precision: str, shapes: str, *, imgsz: int | None, folder: Path, tools: Mapping[str, str]
) -> Row:
    """Make one bundle with its engine, and build the engine a second time."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    dynamic = shapes == "dynamic"
    options = EngineOptions(batch_profiles=BATCHES, size_profile=SIZES if dynamic and imgsz is None else None)
    request = ExportRequest(
        source=ModelSource(variant=variant, image_size=None if imgsz is None else (imgsz, imgsz)),
        folder=folder,
        graph=ExportConfig(dynamic=dynamic, precision=Precision(precision)),
        precision=Precision(precision),
        engine="tensorrt-rtx",
        engine_options=options,
        calibration_images=8,
        parity_images=8,
        measure_latency=False,
    )
    started = time.monotonic()
    try:
        report = export_bundle(request)
        first = report.engines[0]
        graph = Path(report.bundle) / first.source
        second = build_engines(graph, "tensorrt-rtx", options, folder=folder / "again")[0]
        problems = list(check(report, again=folder / "again" / str(second.file), dynamic=dynamic))
    except LinglosError as error:
        return Row(variant, precision, shapes, time.monotonic() - started, detail=str(error), tools=tools)
    if second.seconds * FASTER >= first.seconds:
        problems.append(f"the cache is not {FASTER} times faster")
    record = read_record(Path(report.bundle) / str(first.file))
    return Row(
        variant=variant,
        precision=precision,
        shapes=shapes,
        total_seconds=time.monotonic() - started,
        build_seconds=first.seconds,
        cached_seconds=second.seconds,
        engine_bytes=record.bytes,
        graph_bytes=graph.stat().st_size,
        expected=record.precision.expected,
        passed=not problems,
        detail="; ".join(problems),
        tools=tools,
    )


def check(report: ExportReport, *, again: Path, dynamic: bool) -> Iterator[str]:
    """Say what is wrong with a bundle's engine, and with the one that was built again.

    Raises:
        ArtifactError: A file of the bundle is missing or not the one in its manifest, or there is no readable sidecar.
    """
    bundle = open_bundle(Path(report.bundle))  # every byte against the manifest
    plan = bundle.path / bundle.manifest.engines[0].file
    record, listed = read_record(plan), bundle.manifest.files
    host = Host(machine=describe_machine())
    conditions = {condition.name: condition.passed for condition in check_engine(plan, host).conditions}
    yield from (name for name in ("header", "size", "digest", "version") if not conditions.get(name))
    if not report.passed:
        yield "parity"
    if record.digest != listed[plan.name].sha256:
        yield "the manifest has another digest than the sidecar"
    yield from (f"no {file.name}" for file in (sidecar_path(plan), log_path(plan)) if file.name not in listed)
    if "[INFO]" not in log_path(plan).read_text():
        yield "an empty log"
    if record.onnx_digest != listed[record.onnx_name].sha256:
        yield "made from another graph"
    if missing := ASKED[report.precision] - set(record.precision.expected):
        yield f"no {', '.join(sorted(missing))} in the graph"
    shapes = [profile["image"] for profile in record.spec.profiles]
    if [(shape.min[0], shape.opt[0], shape.max[0]) for shape in shapes] != list(BATCHES):
        yield "other batches than asked for"
    if any((shape.min[2:] < shape.max[2:]) is not dynamic for shape in shapes):
        yield "other sizes than asked for"
    copy = read_record(again)
    if (copy.digest, copy.spec) != (record.digest, record.spec) or again.read_bytes() != plan.read_bytes():
        yield "the second engine is another one"


def render(rows: Iterable[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| variant | precision | image size | graph asks for | build s | cached s | graph MB | engine MB | |",
        "|---|---|---|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        verdict = "ok" if row.passed else row.detail.splitlines()[0]
        lines.append(
            f"| {row.variant} | {row.precision} | {row.shapes} | {', '.join(row.expected)} | {row.build_seconds:.2f} | "
            f"{row.cached_seconds:.2f} | {row.graph_bytes / 1e6:.1f} | {row.engine_bytes / 1e6:.1f} | {verdict} |"
        )
    return "\n".join(lines) + "\n"


def _cells() -> Iterator[tuple[str, str, str]]:
    return ((variant, precision, shapes) for variant in VARIANTS for precision in PRECISIONS for shapes in SHAPES)


def _chosen(options: argparse.Namespace) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    return options.variants, options.precisions, options.shapes


def _line(row: Row) -> str:
    verdict = "ok" if row.passed else row.detail
    return (
        f"{row.variant} {row.precision} {row.shapes}: {row.build_seconds:.2f} s, {row.cached_seconds:.2f} s "
        f"of {row.total_seconds:.0f} s, {verdict}"
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/engines"), help="folder of the results")
    for name, values in (("variants", VARIANTS), ("precisions", PRECISIONS), ("shapes", SHAPES)):
        parser.add_argument(f"--{name}", type=_some_of(values), default=values, metavar=",".join(values))
    parser.add_argument("--imgsz", type=int, default=None, help="image size; the variant's own by default")
    parser.add_argument("--again", action="store_true", help="measure anew what passed before")
    return parser.parse_args(argv)


def _some_of(values: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := [value for value in chosen if value not in values]:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(values)}")
        return chosen

    return parse


if __name__ == "__main__":
    raise SystemExit(main())
