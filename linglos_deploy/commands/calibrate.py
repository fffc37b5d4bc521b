"""A graph and images become a calibration table."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from linglos_deploy import options
from linglos_deploy.console import Terminal
from linglos_deploy.errors import UsageError
from linglos_deploy.running import show, write_reports


def _must_exist(param: typer.CallbackParam, value: Any) -> Any:  # Typer on Python 3.10 cannot read list[Path] here
    """Check that the graph, or all tables after 'merge', are there."""
    options.must_exist(param, value[1:] if [str(path) for path in value[:1]] == ["merge"] else value)
    return value


def calibrate(
    subjects: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL.onnx | BUNDLE | merge TABLE …",
            callback=_must_exist,
            help="The float32 graph, or the bundle that holds it; or 'merge' and tables of shards.",
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            callback=options.must_exist,
            metavar="PATH",
            help="Images: a folder, .npz or .npy; synthetic without.",
        ),
    ] = None,
    images: Annotated[int | None, typer.Option("--images", min=1, help="Use at most this many images.")] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch", min=1, help="Images of one run, if that changes no bit [what 96 MiB of activations allow]."
        ),
    ] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/N", help="Only this machine's share of the images: 3/16.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted run with the same options stopped.")
    ] = False,
    dask: Annotated[
        str | None, typer.Option("--dask", metavar="ADDRESS", help="Share the images out to a dask cluster.")
    ] = None,
    per_channel: Annotated[bool, typer.Option("--per-channel", help="Keep ranges per channel, too.")] = False,
    sample_every: Annotated[
        int, typer.Option("--sample-every", min=1, help="Look at one element in N only; 1 looks at all.")
    ] = 1,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on images that look wrong.")] = False,
    imgsz: options.ImageSize = None,
    mean: options.Mean = None,
    std: options.Std = None,
    scale: options.PixelScale = None,
    color: options.Colors = None,
    layout: options.Axes = None,
    crop_pct: options.CropPct = None,
    interpolation: options.Filter = None,
    shape: options.InputShapes = None,
    html: options.Html = None,
    threads: options.Threads = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the choice of images, and of synthetic ones.")] = 0,
    output: Annotated[
        Path, typer.Option("--output", "-o", callback=options.file_name, metavar="FILE", help="Where the table goes.")
    ] = Path("calibration.table"),
    force: options.Force = False,
    everything: options.All = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
    save_config: options.SaveConfig = None,
) -> bool:
    """See what flows into every convolution and linear layer: one pass, any number of images, constant memory.

    \b
    Examples:
      linglos-deploy calibrate build/linglo_s/model.onnx --data calib/
      linglos-deploy calibrate build/linglo_s/model.onnx --data calib/ --shard 1/2 -o shard1.table
      linglos-deploy calibrate theirs.onnx --data images/ --mean 0.5 --std 0.5 --imgsz 320
      linglos-deploy calibrate merge shard1.table shard2.table -o calibration.table
    """
    from linglos_deploy import api, descriptions
    from linglos_deploy.calibration.calibrate import CalibrationConfig
    from linglos_deploy.calibration.sampling import Sampling
    from linglos_deploy.graph.feeds import parse_shapes
    from linglos_deploy.inspection import summarize_table
    from linglos_deploy.screens import show_table
    from linglos_deploy.verbs.calibrate import merge_table_files

    assert descriptions  # registered how a table looks
    first, *others = subjects
    if str(first) == "merge":
        options.refuse_unused(
            "calibrate merge",
            {
                "--data": data,
                "--images": images,
                "--batch": batch,
                "--shard": shard,
                "--resume": resume,
                "--dask": dask,
                "--per-channel": per_channel,
                "--sample-every": sample_every > 1,
                "--strict": strict,
                "--threads": threads,
                "--seed": seed,
                "--imgsz": imgsz,
                "--mean": mean,
                "--std": std,
                "--scale": scale,
                "--color": color,
                "--layout": layout,
                "--crop-pct": crop_pct,
                "--interpolation": interpolation,
                "--shape": shape,
            },
        )
        table = merge_table_files(others, out=output, replace=force)
    else:
        if others:
            raise UsageError(
                "calibrate takes one graph.",
                found=", ".join(map(str, subjects)),
                expected="one graph, or 'merge' and tables",
                next_step=f"linglos-deploy calibrate {first}",
            )
        table = api.calibrate(
            first,
            data,
            output,
            images=images,
            shard=options.parse_shard(shard),
            resume=resume,
            dask=dask,
            strict=strict,
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
            shapes=parse_shapes(shape or ()),
            config=CalibrationConfig(
                per_channel=per_channel, sampling=Sampling(every=sample_every, seed=seed), batch_size=batch
            ),
            threads=threads,
            seed=seed,
            replace=force,
            progress=Terminal(quiet=quiet),
        )
    write_reports([table], html=html)
    screen = functools.partial(show_table, path=output, every_row=everything)
    show(summarize_table(table), screen, as_json=as_json)
    return True
