"""Build engines of every variant, precision and kind of shape with two compilers, twice each, and check what comes out.

    python benchmarks/engines/matrix.py
    python benchmarks/engines/matrix.py --variants s --precisions int8+fp16 --shapes fixed --again

Needs no GPU. Every bundle is a whole export with the first compiler's engine and an empty cache; it must hold the plan
with its digest, a sidecar and a log. The other compilers then build from the bundle as ``build --engine NAME`` does.
Each graph is built a second time: that engine must come from the cache, with the same bytes, in less than a tenth of
the time. Writes engines.json and engines.md after every bundle. Started again, it measures only what is missing,
failed or was made by other releases or another commit. Exit code 1 if a cell fails.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from linglos_deploy.artifacts import tool_versions
from linglos_deploy.backends.machine import describe_machine
from linglos_deploy.backends.trt import flavour
from linglos_deploy.backends.trt.flavour import FLAVOURS
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
from linglos_deploy.quantization.placement import find_placement, placement_names
from linglos_deploy.reports.export import ExportReport
from linglos_deploy.verbs.build import build_engines

VARIANTS = ("t", "s", "m", "b")
PRECISIONS = tuple(str(precision) for precision in Precision)
SHAPES = ("fixed", "dynamic")
ENGINES = ("tensorrt-rtx", "openvino")
"""The first one is part of the bundle."""

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
        engine: What compiled it.
        variant: Of the model.
        precision: Of its graph.
        shapes: ``fixed`` or ``dynamic`` height and width; the batch is always dynamic, with two profiles.
        total_seconds: Time of everything: both builds and checks, and for the bundle's engine model, graph, ranges and
            parity.
        build_seconds: Time of the build alone.
        cached_seconds: Time of the second one.
        engine_bytes: Size of the plan.
        graph_bytes: Size of the graph.
        expected: Precisions that the graph asks for.
        passed: Whether sidecar, digest, log and cache are as they should be.
        detail: What is not, or what the vendor said.
        tools: Releases that made it, and this package's commit.
    """

    engine: str
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
    def cell(self) -> Cell:
        """What tells it from the others."""
        return self.engine, self.variant, self.precision, self.shapes


Cell = tuple[str, str, str, str]
"""Compiler, variant, precision and kind of shapes."""


def main(argv: Sequence[str] | None = None) -> int:
    options = _parse(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        if "tensorrt-rtx" in options.engines:
            flavour.load(flavour.TENSORRT_RTX)  # its import is no part of the first build
    except LinglosError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    results = options.out / "engines.json"
    tools = {**tool_versions("linglos-deploy", "tensorrt-rtx-cu13", "openvino", "torch", "onnx"), **_commit()}
    rows = {row.cell: row for row in (read_json(list[Row], results) if results.is_file() else [])}
    asked = [
        cell for cell in _cells() if all(part in chosen for part, chosen in zip(cell, _chosen(options), strict=True))
    ]
    for bundle in dict.fromkeys(cell[1:] for cell in asked):
        missing = [
            cell[0]
            for cell in asked
            if cell[1:] == bundle
            and (options.again or (known := rows.get(cell)) is None or not known.passed or known.tools != tools)
        ]
        if not missing:
            continue
        with tempfile.TemporaryDirectory(prefix="linglos-matrix-") as scratch:
            made = measure(*bundle, engines=missing, imgsz=options.imgsz, folder=Path(scratch), tools=tools)
        for row in made:
            rows[row.cell] = row
            print(_line(row), file=sys.stderr, flush=True)
        ordered = [rows[name] for name in _cells() if name in rows]
        write_json(ordered, results)
        (options.out / "engines.md").write_text(render(ordered), encoding="utf-8")
    print(render([rows[cell] for cell in asked]), end="")
    return 0 if all(rows[cell].passed for cell in asked) else 1


def measure(
    variant: str,
    precision: str,
    shapes: str,
    *,
    engines: Sequence[str],
    imgsz: int | None,
    folder: Path,
    tools: Mapping[str, str],
) -> list[Row]:
    """Make one bundle with the first engine, build the others from it, and build each a second time."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    dynamic = shapes == "dynamic"
    options = EngineOptions(batch_profiles=BATCHES, size_profile=SIZES if dynamic and imgsz is None else None)
    request = ExportRequest(
        source=ModelSource(variant=variant, image_size=None if imgsz is None else (imgsz, imgsz)),
        folder=folder,
        graph=ExportConfig(dynamic=dynamic, precision=Precision(precision)),
        precision=Precision(precision),
        engine=engines[0],
        engine_options=options,
        calibration_images=8,
        parity_images=8,
        measure_latency=False,
    )
    started = time.monotonic()
    try:
        report = export_bundle(request)
    except LinglosError as error:
        seconds = time.monotonic() - started
        return [Row(name, variant, precision, shapes, seconds, detail=str(error), tools=tools) for name in engines]
    rows = []
    for name in engines:
        draft = Row(name, variant, precision, shapes, tools=tools)
        try:
            row = _measure_engine(draft, report, options, folder=folder, dynamic=dynamic)
        except LinglosError as error:
            row = replace(draft, detail=str(error))
        rows.append(replace(row, total_seconds=time.monotonic() - started))
        started = time.monotonic()
    return rows


def _measure_engine(draft: Row, report: ExportReport, options: EngineOptions, *, folder: Path, dynamic: bool) -> Row:
    """Check one engine of a bundle, or build it there, and build it again."""
    bundle = Path(report.bundle)
    if made := [outcome for outcome in report.engines if outcome.backend == draft.engine]:
        first, plan = made[0], bundle / str(made[0].file)
        graph, problems = bundle / first.source, list(check_bundle(report, plan))
    else:
        graph, problems = bundle / graph_for(draft.engine, report), []
        first = build_engines(graph, draft.engine, options, folder=folder / draft.engine)[0]
        plan = folder / draft.engine / str(first.file)
    second = build_engines(graph, draft.engine, options, folder=folder / "again" / draft.engine)[0]
    again = folder / "again" / draft.engine / str(second.file)
    problems += check(plan, again=again, precision=draft.precision, dynamic=dynamic)
    if second.seconds * FASTER >= first.seconds:
        problems.append(f"the cache is not {FASTER} times faster")
    record = read_record(plan)
    return replace(
        draft,
        build_seconds=first.seconds,
        cached_seconds=second.seconds,
        engine_bytes=record.bytes,
        graph_bytes=graph.stat().st_size,
        expected=record.precision.expected,
        passed=not problems,
        detail="; ".join(problems),
    )


def graph_for(engine: str, report: ExportReport) -> str:
    """Return the graph of a bundle that is made for a compiler, or the one that every runtime reads."""
    files = {file.name for file in Path(report.bundle).glob("*.onnx")}
    own = find_placement(engine).graph_name(Precision(report.precision)) if engine in placement_names() else None
    return next(name for name in (own, f"model.{report.precision}.onnx", "model.onnx") if name in files)


def check_bundle(report: ExportReport, plan: Path) -> Iterator[str]:
    """Say what is wrong with a bundle around its engine.

    Raises:
        ArtifactError: A file of the bundle is missing or not the one in its manifest, or there is no readable sidecar.
    """
    bundle = open_bundle(Path(report.bundle))  # every byte against the manifest
    record, listed = read_record(plan), bundle.manifest.files
    if not report.passed:
        yield "parity"
    if record.digest != listed[plan.name].sha256:
        yield "the manifest has another digest than the sidecar"
    if record.onnx_digest != listed[record.onnx_name].sha256:
        yield "made from another graph"
    yield from (f"no {file.name}" for file in (sidecar_path(plan), log_path(plan)) if file.name not in listed)


def check(plan: Path, *, again: Path, precision: str, dynamic: bool) -> Iterator[str]:
    """Say what is wrong with an engine, and with the one that was built again.

    Raises:
        ArtifactError: There is no readable sidecar.
    """
    record = read_record(plan)
    host = Host(machine=describe_machine())
    conditions = {condition.name: condition.passed for condition in check_engine(plan, host).conditions}
    wanted = ("size", "digest", "version", *(("header",) if record.backend in FLAVOURS else ()))
    yield from (name for name in wanted if not conditions.get(name))
    if record.backend in FLAVOURS and "[INFO]" not in log_path(plan).read_text():
        yield "an empty log"
    if record.backend in FLAVOURS and (missing := ASKED[precision] - set(record.precision.expected)):
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
        "| engine | variant | precision | image size | graph asks for | build s | cached s | graph MB | engine MB | |",
        "|---|---|---|---|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        verdict = "ok" if row.passed else row.detail.splitlines()[0]
        lines.append(
            f"| {row.engine} | {row.variant} | {row.precision} | {row.shapes} | "
            f"{', '.join(row.expected)} | {row.build_seconds:.2f} | {row.cached_seconds:.2f} | "
            f"{row.graph_bytes / 1e6:.1f} | {row.engine_bytes / 1e6:.1f} | {verdict} |"
        )
    return "\n".join(lines) + "\n"


def _cells() -> Iterator[Cell]:
    return product(ENGINES, VARIANTS, PRECISIONS, SHAPES)


def _commit() -> dict[str, str]:
    """Return the commit of this checkout; nothing where there is none."""
    try:
        git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
        found = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": found}


def _chosen(options: argparse.Namespace) -> tuple[Sequence[str], ...]:
    return options.engines, options.variants, options.precisions, options.shapes


def _line(row: Row) -> str:
    verdict = "ok" if row.passed else row.detail
    return (
        f"{' '.join(row.cell)}: {row.build_seconds:.2f} s, {row.cached_seconds:.2f} s "
        f"of {row.total_seconds:.0f} s, {verdict}"
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/engines"), help="folder of the results")
    for name, values in (("engines", ENGINES), ("variants", VARIANTS), ("precisions", PRECISIONS), ("shapes", SHAPES)):
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
