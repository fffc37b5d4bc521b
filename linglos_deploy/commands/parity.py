"""Graphs are checked against PyTorch, golden tensors, or one another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linglos_deploy import options, running
from linglos_deploy.choices import Precision
from linglos_deploy.console import Terminal
from linglos_deploy.running import show, write_reports


def parity(
    candidate: Annotated[
        Path, typer.Argument(callback=options.must_exist, metavar="BUNDLE | MODEL.onnx | ENGINE", help="What to check.")
    ],
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference", callback=options.must_exist, metavar="MODEL.onnx", help="Check a graph against this one."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            callback=options.must_exist,
            metavar="FILE",
            help="Check against PyTorch with these weights.",
        ),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(
            "--variant", autocompletion=options.complete_variant, help="Check against this variant in PyTorch."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="PACKAGE.MODULE:FACTORY", help="Check against your own module.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", callback=options.must_exist, metavar="PATH", help="Images; a bundle brings golden ones."
        ),
    ] = None,
    images: Annotated[
        int | None, typer.Option("--images", min=1, help="Check at most this many images of --data [256].")
    ] = None,
    dask: Annotated[
        str | None, typer.Option("--dask", metavar="ADDRESS", help="Share the images of --data out to a dask cluster.")
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option("--precision", help="Only the bundle's graph of this precision; else limits of this one."),
    ] = None,
    layers: Annotated[
        bool | None,
        typer.Option("--layers/--no-layers", help="Show every inner tensor; or do not look at them. [default: judge]"),
    ] = None,
    locate: Annotated[bool, typer.Option("--locate", help="Find the first layer that goes wrong.")] = False,
    criteria: Annotated[
        Path | None,
        typer.Option(
            "--criteria", callback=options.must_exist, metavar="FILE", help="Limits of your own, such as parity.toml."
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option("--limit", metavar="NAME=VALUE", help="One limit, such as sqnr_db=25 or cosine=off."),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            "--plan",
            callback=options.must_exist,
            metavar="PLAN.json",
            help="The plan that an INT8 graph must carry out. [default: one beside the graphs]",
        ),
    ] = None,
    no_plan: Annotated[
        bool, typer.Option("--no-plan", help="Judge an INT8 graph without its plan: take its scales as they are.")
    ] = False,
    device: Annotated[
        str | None, typer.Option("--device", metavar="cpu|cuda:N", help="Where engines run [each backend's default].")
    ] = None,
    weights: options.EngineWeights = None,
    allow_host_code: options.HostCode = False,
    imgsz: options.ImageSize = None,
    mean: options.Mean = None,
    std: options.Std = None,
    scale: options.PixelScale = None,
    color: options.Colors = None,
    layout: options.Axes = None,
    crop_pct: options.CropPct = None,
    interpolation: options.Filter = None,
    threads: options.Threads = 0,
    html: options.Html = None,
    junit: options.JUnit = None,
    summary: options.Summary = None,
    annotate: options.Annotate = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
    save_config: options.SaveConfig = None,
) -> bool:
    """Check that graphs still answer as the PyTorch model did; exit code 1 when one drifts, 5 when it cannot be told.

    \b
    Examples:
      linglos-deploy parity build/linglo_s --junit parity.xml
      linglos-deploy parity build/linglo_s --checkpoint best.safetensors --data val/
      linglos-deploy parity model.int8.onnx --reference model.onnx --data val/ --limit sqnr_db=25
      linglos-deploy parity build/linglo_s --locate --checkpoint best.safetensors --data val/
    """
    from linglos_deploy import api
    from linglos_deploy.models.loading import ModelSource
    from linglos_deploy.parity.criteria import parse_limit
    from linglos_deploy.profiling.access import EngineAccess
    from linglos_deploy.screens import show_parity_outcome

    options.import_from_here()
    named = checkpoint is not None or variant is not None or model is not None
    source = ModelSource(variant=variant, checkpoint=checkpoint, factory=model) if named else None
    outcome = api.check_parity(
        candidate,
        reference=reference,
        model=source,
        data=data,
        precision=precision,
        images=images,
        preprocess=options.preprocessing(
            imgsz=imgsz,
            mean=mean,
            std=std,
            scale=scale,
            color=color,
            layout=layout,
            crop_pct=crop_pct,
            interpolation=interpolation,
        ),
        threads=threads,
        layers=layers,
        locate=locate,
        criteria=criteria,
        limits=dict(map(parse_limit, limit or ())),
        plan=plan,
        unplanned=no_plan,
        access=EngineAccess(device or "", allow_host_code, weights),
        dask=dask,
        progress=Terminal(quiet=quiet),
    )
    write_reports([outcome], html=html, junit=junit, summary=summary)
    if annotate:
        running.annotate([outcome], file=candidate)
    show(outcome, show_parity_outcome, as_json=as_json)
    if outcome.undecided:
        raise typer.Exit(running.UNDECIDED)
    return outcome.passed
