"""Limits of parity that know the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linglos_deploy import options
from linglos_deploy.choices import Precision
from linglos_deploy.console import Terminal
from linglos_deploy.running import show


def calibrate_criteria(
    candidate: Annotated[
        Path,
        typer.Argument(callback=options.must_exist, metavar="BUNDLE | MODEL.onnx", help="What limits are wanted for."),
    ],
    reference: Annotated[
        Path | None,
        typer.Option("--reference", callback=options.must_exist, metavar="MODEL.onnx", help="Compare with this graph."),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint", callback=options.must_exist, metavar="FILE", help="Compare with PyTorch with these weights."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", callback=options.must_exist, metavar="PATH", help="Images, best those of later checks."),
    ] = None,
    images: Annotated[int | None, typer.Option("--images", min=1, help="At most this many images of --data.")] = None,
    precision: Annotated[
        Precision | None, typer.Option("--precision", help="Only the bundle's graph of this precision.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", callback=options.file_name, metavar="FILE", help="Where the limits go.")
    ] = Path("parity.toml"),
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
    save_config: options.SaveConfig = None,
) -> bool:
    """Measure what a good model reaches, and propose limits for parity, each with its reason.

    The model is checked several times: again, with other numbers of threads, in other batches. The limits are its worst
    values, less what these, another machine and other images explain. The file is what parity takes as its criteria.

    \b
    Example:
      linglos-deploy calibrate-criteria build/linglo_s --data val/
    """
    from linglos_deploy import api
    from linglos_deploy.models.loading import ModelSource
    from linglos_deploy.screens import show_described

    proposal = api.calibrate_criteria(
        candidate,
        output,
        reference=reference,
        model=ModelSource(checkpoint=checkpoint) if checkpoint is not None else None,
        data=data,
        images=images,
        precision=precision,
        replace=force,
        progress=Terminal(quiet=quiet),
    )
    show(proposal, show_described, as_json=as_json)
    return True
