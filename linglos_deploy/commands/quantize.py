"""A table becomes a plan, and the plan an INT8 graph."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from linglos_deploy import options
from linglos_deploy.console import Terminal
from linglos_deploy.running import show


def quantize(
    model: Annotated[
        Path,
        typer.Argument(
            callback=options.must_exist,
            metavar="MODEL.onnx | BUNDLE",
            help="The float32 graph, or the bundle that holds it.",
        ),
    ],
    table: Annotated[
        Path | None,
        typer.Option(
            "--table",
            callback=options.must_exist,
            metavar="FILE",
            help="What 'calibrate' saw; needed unless --plan is given.",
        ),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            "--plan", callback=options.must_exist, metavar="FILE", help="Carry out this plan instead of making one."
        ),
    ] = None,
    method: options.ThresholdMethod = None,
    percentile: options.Percentile = None,
    weight_bits: options.WeightBits = None,
    narrow: options.Narrow = False,
    nodes_to_exclude: options.NodesToExclude = None,
    target_runtime: options.TargetRuntime = "tensorrt",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            callback=options.file_name,
            metavar="FILE",
            help="Where the INT8 graph goes [MODEL.int8.onnx].",
        ),
    ] = None,
    save_plan: Annotated[
        Path | None,
        typer.Option(
            "--save-plan",
            callback=options.file_name,
            metavar="FILE",
            help="Where the plan goes [beside the INT8 graph].",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Make the plan and stop.")] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            callback=options.must_exist,
            metavar="PATH",
            help="Inputs to check a conversion of the opset on; made up without.",
        ),
    ] = None,
    shape: options.InputShapes = None,
    force: options.Force = False,
    everything: options.All = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
    save_config: options.SaveConfig = None,
) -> bool:
    """Turn a calibration table into a plan, and the plan into an INT8 graph. The plan says why, tensor by tensor.

    \b
    Examples:
      linglos-deploy quantize model.onnx --table calibration.table
      linglos-deploy quantize model.onnx --table calibration.table --target-runtime onnxruntime-x86
      linglos-deploy quantize model.onnx --table calibration.table --nodes-to-exclude 'head/.*' --method percentile
    """
    from linglos_deploy import api
    from linglos_deploy.graph.feeds import parse_shapes
    from linglos_deploy.screens import show_plan

    if plan is not None:
        options.refuse_unused(
            "quantize --plan",
            {
                "--method": method,
                "--percentile": percentile,
                "--weight-bits": weight_bits,
                "--narrow": narrow or None,
                "--nodes-to-exclude": nodes_to_exclude,
            },
        )
    result = api.quantize(
        model,
        output,
        table=table,
        plan=plan,
        scheme=options.quant_scheme(method, percentile, weight_bits, nodes_to_exclude, narrow=narrow),
        target_runtime=target_runtime,
        save_plan=save_plan,
        dry_run=dry_run,
        data=data,
        shapes=parse_shapes(shape or ()),
        replace=force,
        progress=Terminal(quiet=quiet),
    )
    show(result, partial(show_plan, every_row=everything), as_json=as_json)
    return True
