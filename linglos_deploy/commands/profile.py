"""How fast models run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linglos_deploy import options
from linglos_deploy.console import Terminal
from linglos_deploy.errors import MissingDependencyError
from linglos_deploy.running import UNDECIDED, naming, show, write_reports


def profile(
    models: Annotated[
        list[Path],
        typer.Argument(
            callback=options.must_exist,
            metavar="BUNDLE | MODEL.onnx | ENGINE …",
            help="What to measure, against the first.",
        ),
    ],
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "--backend",
            autocompletion=options.complete_backend,
            help="Run graphs on this backend (repeatable) [onnxruntime].",
        ),
    ] = None,
    batch: Annotated[str, typer.Option("--batch", metavar="1,8,…", help="Batch sizes.")] = "1",
    threads: Annotated[
        str, typer.Option("--threads", metavar="1,2,…", help="Threads of a run, for all; 0: each backend's choice.")
    ] = "1",
    imgsz: Annotated[
        list[str] | None, typer.Option("--imgsz", help="Image size for graphs that take any (repeatable).")
    ] = None,
    shape: options.InputShapes = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FILE.npz", help="Arrays by input name to run, instead of random numbers."),
    ] = None,
    precision_target: Annotated[
        str | None,
        typer.Option("--precision-target", metavar="2%", help="As many processes as give intervals of this ± [2%]."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="60s", help="Longest time of all [20 s a row, if that is not enough]."),
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="Processes of each candidate, instead of these two.")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Turns of each process.")] = 4,
    seconds: Annotated[float, typer.Option("--seconds", min=0.0, help="Least measured time of a process.")] = 0.6,
    min_effect: Annotated[
        str, typer.Option("--min-effect", metavar="1%", help="Smallest difference that counts as one.")
    ] = "1%",
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Of the order of processes and turns, and of the input [drawn].")
    ] = None,
    max_p50_ms: Annotated[
        float | None, typer.Option("--max-p50-ms", min=0.0, help="Fail when a median is slower than this.")
    ] = None,
    gate: Annotated[
        str | None,
        typer.Option("--gate", metavar="5%", help="Fail if a model is slower than the first by more; asks twice."),
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Add where the time goes, layer by layer.")] = False,
    device: Annotated[
        str | None, typer.Option("--device", metavar="cpu|cuda:N", help="Where models run [each backend's default].")
    ] = None,
    weights: options.EngineWeights = None,
    allow_host_code: options.HostCode = False,
    html: options.Html = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", callback=options.file_name, metavar="FILE", help="Write every timed run as CSV."),
    ] = None,
    everything: options.All = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
    save_config: options.SaveConfig = None,
) -> bool:
    """Measure latency: fresh processes of each candidate in blocks, in turns, ratios with intervals.

    \b
    Examples:
      linglos-deploy profile build/linglo_s
      linglos-deploy profile build/linglo_s --backend onnxruntime --backend openvino --batch 1,8 --html latency.html
      linglos-deploy profile model.onnx --imgsz 160 --imgsz 224 --imgsz 320 --imgsz 448
      linglos-deploy profile theirs.onnx --shape tokens=1x128 --shape mask=1x128
      linglos-deploy profile build/linglo_s/model.int8.onnx --threads 1 --max-p50-ms 40
      linglos-deploy profile main/model.onnx branch/model.onnx --gate 5% --budget 2m
    """
    from functools import partial

    from linglos_deploy import api
    from linglos_deploy.graph.feeds import parse_shapes
    from linglos_deploy.profiling.access import EngineAccess
    from linglos_deploy.profiling.plan import MeasurementPlan
    from linglos_deploy.reports.profile import only_missing, only_undecided
    from linglos_deploy.reports.samples import write_csv
    from linglos_deploy.screens import show_profile

    plan = MeasurementPlan(
        batch_sizes=options.parse_numbers(batch, option="--batch"),
        threads=options.parse_numbers(threads, option="--threads", least=0),
        image_sizes=options.parse_sizes(imgsz),
        shapes=parse_shapes(shape or ()),
        data=data,
        processes=processes,
        precision_target=options.parse_share(precision_target, option="--precision-target"),
        budget_seconds=options.parse_seconds(budget, option="--budget"),
        rounds=rounds,
        min_seconds=seconds,
        min_effect=options.parse_share(min_effect, option="--min-effect") or 0.0,
        seed=seed,
        layers=layers,
    )
    report = api.profile(
        *models,
        backends=backend or ["onnxruntime"],
        plan=plan,
        max_p50_ms=max_p50_ms,
        gate=options.parse_share(gate, option="--gate"),
        access=EngineAccess(device or "", allow_host_code, weights),
        progress=Terminal(quiet=quiet),
    )
    write_reports([report], html=html)
    if csv is not None:
        with naming("--csv"):
            write_csv(report, csv)
    show(report, partial(show_profile, every_row=everything), as_json=as_json)
    if only_undecided(report):
        raise typer.Exit(UNDECIDED)
    if not report.passed and only_missing(report):
        raise typer.Exit(MissingDependencyError.exit_code)
    return report.passed
